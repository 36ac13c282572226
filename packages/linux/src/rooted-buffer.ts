import { type Address, libc } from "./libc.ts";

/**
 * Memory that the kernel may write: bytes and their address on one object. An address alone does not keep its buffer
 * alive, so whoever holds the address holds this.
 */
export class RootedBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly address: Address;
  #loans = 0;

  /** @param length bytes, zeroed */
  constructor(length: number) {
    // A small Uint8Array may lie in V8's heap, where the collector moves it; one over an ArrayBuffer does not.
    this.bytes = new Uint8Array(new ArrayBuffer(Math.max(length, 128)), 0, length);
    this.view = new DataView(this.bytes.buffer, 0, length);
    this.address = libc().address(this.bytes);
  }

  /** A copy of `bytes` in memory of its own. */
  static from(bytes: Uint8Array): RootedBuffer {
    const buffer = new RootedBuffer(bytes.length);
    buffer.bytes.set(bytes);
    return buffer;
  }

  /** Makes a call with the address; the buffer outlives it even where the caller drops it. */
  lend<T>(call: (address: Address) => T): T {
    const result = call(this.address);
    this.#loans++;
    return result;
  }
}
