import { type BlockBackend, type Clock, NorthbridgeError } from "@northbridge/core/contracts";

type Operation = "read" | "write" | "flush" | "discard" | "writeZeroes";

/** How one request goes wrong. */
interface Fault {
  readonly error: string;
  readonly on: Operation | undefined;
  readonly after: number;
}

/** A disk in memory whose requests can fail, tear and take guest time. */
export class FakeDisk implements BlockBackend {
  readonly bytes: Uint8Array;
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** What was asked of it, oldest first. */
  readonly requests: { readonly operation: Operation; readonly offset: number; readonly length: number }[] =
    [];
  isClosed = false;
  readonly #faults: Fault[] = [];
  readonly #clock: Clock | undefined;
  /** Guest time that every request takes. */
  latencyNs = 0;

  constructor(
    size: number,
    options: { readonly blockSize?: number; readonly readOnly?: boolean; readonly clock?: Clock } = {},
  ) {
    this.bytes = new Uint8Array(size);
    this.blockSize = options.blockSize ?? 512;
    this.readOnly = options.readOnly ?? false;
    this.#clock = options.clock;
  }

  get size(): number {
    return this.bytes.length;
  }

  /**
   * The next request fails.
   * @param error as errno spells it: `EIO`, `ENOSPC`
   * @param options `on`: only a request of this kind. `after`: bytes that are moved before it fails: a short read, a torn write
   */
  failNext(
    error: string,
    options: { readonly on?: Operation; readonly after?: number; readonly count?: number } = {},
  ): void {
    for (let i = 0; i < (options.count ?? 1); i++) {
      this.#faults.push({ error, on: options.on, after: options.after ?? 0 });
    }
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#readParts(offset, into);
  }

  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    return this.#writeParts(offset, from);
  }

  async #readParts(offset: number, into: readonly Uint8Array[]): Promise<void> {
    const fault = await this.#begin("read", offset, lengthOf(into));
    let at = offset;
    let left = fault?.after ?? Infinity;
    for (const part of into) {
      const moved = Math.min(left, part.length);
      part.set(this.bytes.subarray(at, at + moved));
      at += part.length;
      left -= moved;
    }
    this.#end("read", offset, fault);
  }

  async #writeParts(offset: number, from: readonly Uint8Array[]): Promise<void> {
    const fault = await this.#begin("write", offset, lengthOf(from));
    let at = offset;
    let left = fault?.after ?? Infinity;
    for (const part of from) {
      const moved = Math.min(left, part.length);
      this.bytes.set(part.subarray(0, moved), at);
      at += part.length;
      left -= moved;
    }
    this.#end("write", offset, fault);
  }

  async flush(): Promise<void> {
    this.#end("flush", 0, await this.#begin("flush", 0, 0));
  }

  async discard(offset: number, length: number): Promise<void> {
    const fault = await this.#begin("discard", offset, length);
    if (fault === undefined) this.bytes.fill(0, offset, offset + length);
    this.#end("discard", offset, fault);
  }

  async writeZeroes(offset: number, length: number, _mayUnmap: boolean): Promise<void> {
    const fault = await this.#begin("writeZeroes", offset, length);
    if (fault === undefined) this.bytes.fill(0, offset, offset + length);
    this.#end("writeZeroes", offset, fault);
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }

  async #begin(operation: Operation, offset: number, length: number): Promise<Fault | undefined> {
    this.requests.push({ operation, offset, length });
    const at = this.#faults.findIndex(({ on }) => on === undefined || on === operation);
    const [fault] = at < 0 ? [] : this.#faults.splice(at, 1);
    const clock = this.#clock;
    if (clock !== undefined && this.latencyNs > 0) {
      await new Promise<void>((resolve) => {
        clock.createTimer(resolve).arm(clock.nowNs() + this.latencyNs);
      });
    }
    if (this.isClosed) throw refuse(operation, offset, "the disk is closed");
    if (offset % this.blockSize !== 0 || length % this.blockSize !== 0) {
      throw refuse(operation, offset, `not in blocks of ${this.blockSize} bytes: ${length} bytes`);
    }
    if (offset < 0 || offset + length > this.size)
      throw refuse(operation, offset, `${length} bytes leave the disk`);
    if (this.readOnly && operation !== "read" && operation !== "flush")
      throw refuse(operation, offset, "read only");
    return fault;
  }

  #end(operation: Operation, offset: number, fault: Fault | undefined): void {
    if (fault !== undefined) throw refuse(operation, offset, fault.error);
  }
}

function refuse(operation: Operation, offset: number, reason: string): NorthbridgeError {
  return new NorthbridgeError("NB_HOST", `${operation} at ${offset}: ${reason}`);
}

const lengthOf = (parts: readonly Uint8Array[]): number => parts.reduce((sum, { length }) => sum + length, 0);
