import { type BlockBackend, type Clock, NorthbridgeError, type Timer } from "../contracts/index.ts";

const SECTOR = 512;

/** What a request asks of a disk. */
export type BlockOperation = "read" | "write" | "flush" | "discard" | "writeZeroes";

/** How requests go wrong. */
export interface BlockFault {
  /** As errno spells it: `EIO`, `ENOSPC`. */
  readonly error: string;
  /** @defaultValue any */
  readonly on?: BlockOperation | undefined;
  /** First and last sector: requests that touch one of them. @defaultValue all */
  readonly sectors?: readonly [first: number, last: number] | undefined;
  /** Such requests that go well before. @defaultValue 0 */
  readonly skip?: number | undefined;
  /** Requests that fail. @defaultValue every one from then on */
  readonly times?: number | undefined;
  /** Bytes that are moved before the failure: a short read, a torn write. @defaultValue 0 */
  readonly after?: number | undefined;
}

interface ArmedFault {
  readonly fault: BlockFault;
  skip: number;
  times: number;
}

/** A request that waits for guest time. */
interface Delay {
  readonly timer: Timer;
  /** Undefined while none waits. */
  done: (() => void) | undefined;
}

/** A disk that fails and takes its time as told, in front of one that works. */
export class FaultyBlock implements BlockBackend {
  readonly #disk: BlockBackend;
  readonly #clock: Clock;
  readonly #latencyNs: number;
  readonly #faults: ArmedFault[] = [];
  readonly #delays: Delay[] = [];
  #failed = 0;
  /** Guest time at the last hurry: while it is that time, it stands still. */
  #standsStillAt = NaN;
  readonly discard?: (offset: number, length: number) => Promise<void>;
  readonly writeZeroes?: (offset: number, length: number, mayUnmap: boolean) => Promise<void>;
  readonly resize?: NonNullable<BlockBackend["resize"]>;

  constructor(
    disk: BlockBackend,
    options: { readonly clock: Clock; readonly latencyUs?: number; readonly faults?: readonly BlockFault[] },
  ) {
    this.#disk = disk;
    this.#clock = options.clock;
    this.#latencyNs = (options.latencyUs ?? 0) * 1000;
    for (const fault of options.faults ?? []) this.fail(fault);
    if (disk.discard !== undefined) {
      this.discard = (offset, length) =>
        this.#whole("discard", offset, length, () => disk.discard?.(offset, length));
    }
    if (disk.writeZeroes !== undefined) {
      this.writeZeroes = (offset, length, mayUnmap) =>
        this.#whole("writeZeroes", offset, length, () => disk.writeZeroes?.(offset, length, mayUnmap));
    }
    if (disk.resize !== undefined) this.resize = disk.resize.bind(disk);
  }

  /** Requests that met a fault so far. */
  get failed(): number {
    return this.#failed;
  }

  get size(): number {
    return this.#disk.size;
  }

  get isSizeUnknown(): boolean {
    return this.#disk.isSizeUnknown ?? false;
  }

  get blockSize(): number {
    return this.#disk.blockSize;
  }

  get readOnly(): boolean {
    return this.#disk.readOnly;
  }

  get location(): string | undefined {
    return this.#disk.location;
  }

  /** Requests fail from now on. */
  fail(fault: BlockFault): void {
    this.#faults.push({ fault, skip: fault.skip ?? 0, times: fault.times ?? Infinity });
  }

  /** The next request of this kind fails. */
  failNext(error: string, options: Omit<BlockFault, "error"> = {}): void {
    this.fail({ error, times: 1, ...options });
  }

  /** Nothing fails any more. */
  heal(): void {
    this.#faults.length = 0;
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#parts("read", offset, into, (parts) => this.#disk.read(offset, parts));
  }

  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    return this.#parts("write", offset, from, (parts) => this.#disk.write(offset, parts));
  }

  flush(): Promise<void> {
    return this.#whole("flush", 0, 0, () => this.#disk.flush());
  }

  hurry(): void {
    this.#standsStillAt = this.#clock.nowNs();
    for (const delay of this.#delays) {
      delay.timer.disarm();
      finish(delay);
    }
    this.#disk.hurry?.();
  }

  async close(): Promise<void> {
    this.hurry();
    await this.#disk.close();
  }

  async #parts(
    operation: BlockOperation,
    offset: number,
    parts: readonly Uint8Array[],
    act: (parts: readonly Uint8Array[]) => Promise<void>,
  ): Promise<void> {
    const fault = this.#due(operation, offset, lengthOf(parts));
    await this.#delay();
    if (fault === undefined) {
      await act(parts);
      return;
    }
    const moved = Math.floor((fault.after ?? 0) / this.blockSize) * this.blockSize;
    if (moved > 0) await act(firstBytes(parts, moved));
    throw refusal(operation, offset, fault);
  }

  async #whole(
    operation: BlockOperation,
    offset: number,
    length: number,
    act: () => Promise<void> | undefined,
  ): Promise<void> {
    const fault = this.#due(operation, offset, length);
    await this.#delay();
    if (fault !== undefined) throw refusal(operation, offset, fault);
    await act();
  }

  /** The first fault that this request meets. */
  #due(operation: BlockOperation, offset: number, length: number): BlockFault | undefined {
    for (const armed of this.#faults) {
      const { on, sectors } = armed.fault;
      if (armed.times <= 0 || (on !== undefined && on !== operation)) continue;
      if (sectors !== undefined) {
        const [first, last] = sectors;
        if (offset >= (last + 1) * SECTOR || offset + length <= first * SECTOR) continue;
      }
      if (armed.skip > 0) {
        armed.skip--;
        continue;
      }
      armed.times--;
      this.#failed++;
      return armed.fault;
    }
    return undefined;
  }

  #delay(): Promise<void> | undefined {
    const now = this.#clock.nowNs();
    if (this.#latencyNs === 0 || now === this.#standsStillAt) return undefined;
    return new Promise((resolve) => {
      const delay = this.#delays.find(({ done }) => done === undefined) ?? this.#newDelay();
      delay.done = resolve;
      delay.timer.arm(now + this.#latencyNs);
    });
  }

  #newDelay(): Delay {
    const delay: Delay = {
      timer: this.#clock.createTimer(() => {
        finish(delay);
      }),
      done: undefined,
    };
    this.#delays.push(delay);
    return delay;
  }
}

function finish(delay: Delay): void {
  const { done } = delay;
  delay.done = undefined;
  done?.();
}

const lengthOf = (parts: readonly Uint8Array[]): number => parts.reduce((sum, { length }) => sum + length, 0);

function firstBytes(parts: readonly Uint8Array[], length: number): readonly Uint8Array[] {
  let left = length;
  return parts.map((part) => {
    const first = part.subarray(0, left);
    left -= first.length;
    return first;
  });
}

const refusal = (operation: BlockOperation, offset: number, { error }: BlockFault): NorthbridgeError =>
  new NorthbridgeError("NB_HOST", `faulty disk: ${operation} at ${offset}: ${error}`);
