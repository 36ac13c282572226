import { type BlockBackend, NorthbridgeError } from "../contracts/index.ts";

const SECTOR = 512;

/** A disk in memory, zeros at first. */
export class MemoryBlock implements BlockBackend {
  readonly blockSize: number = SECTOR;
  readonly readOnly: boolean;
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array, options: { readonly readOnly?: boolean } = {}) {
    if (bytes.length === 0 || bytes.length % SECTOR !== 0) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `memory disk: ${bytes.length} bytes, expected a multiple of ${SECTOR}`,
      );
    }
    this.bytes = bytes;
    this.readOnly = options.readOnly ?? false;
  }

  get size(): number {
    return this.bytes.length;
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    let at = offset;
    for (const part of into) {
      if (at + part.length > this.bytes.length) return rejection(at, part.length, this.size);
      part.set(this.bytes.subarray(at, at + part.length));
      at += part.length;
    }
    return DONE;
  }

  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    let at = offset;
    for (const part of from) {
      if (at + part.length > this.bytes.length) return rejection(at, part.length, this.size);
      this.bytes.set(part, at);
      at += part.length;
    }
    return DONE;
  }

  flush(): Promise<void> {
    return DONE;
  }

  discard(offset: number, length: number): Promise<void> {
    return this.writeZeroes(offset, length);
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    if (offset + length > this.size) return rejection(offset, length, this.size);
    this.bytes.fill(0, offset, offset + length);
    return DONE;
  }

  close(): Promise<void> {
    return DONE;
  }
}

const DONE = Promise.resolve();

function rejection(offset: number, length: number, size: number): Promise<void> {
  return Promise.reject(
    new NorthbridgeError("NB_HOST", `memory disk: ${length} bytes at ${offset} leave its ${size}`),
  );
}
