import type { IoWidth } from "@northbridge/core/contracts";
import { CONFIG_LENGTH } from "./spec.ts";

/**
 * The 256 bytes of a function's configuration space with, bit by bit, what the guest may change. Everything else is
 * read-only to it. Values are little-endian.
 */
export class ConfigSpace {
  readonly #bytes: Uint8Array = new Uint8Array(CONFIG_LENGTH);
  readonly #writable: Uint8Array = new Uint8Array(CONFIG_LENGTH);
  #powerOn: Uint8Array = this.#bytes.slice();

  read(offset: number, width: IoWidth): number {
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (this.#bytes[offset + i] ?? 0xff);
    return value;
  }

  /** A guest's write: read-only bits keep their value. */
  write(offset: number, width: IoWidth, value: number): void {
    for (let i = 0; i < width && offset + i < CONFIG_LENGTH; i++) {
      const mask = this.#writable[offset + i] ?? 0;
      const old = this.#bytes[offset + i] ?? 0;
      this.#bytes[offset + i] = (old & ~mask) | ((value >>> (8 * i)) & mask);
    }
  }

  /** The device's own write: any bit. */
  set(offset: number, width: IoWidth, value: number): void {
    for (let i = 0; i < width; i++) this.#bytes[offset + i] = value >>> (8 * i);
  }

  setBytes(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
  }

  /** Lets the guest change the bits of `mask`. */
  allow(offset: number, width: IoWidth, mask: number): void {
    for (let i = 0; i < width; i++) this.#writable[offset + i] = mask >>> (8 * i);
  }

  /** Takes the present contents for those after power-on. */
  seal(): void {
    this.#powerOn = this.#bytes.slice();
  }

  reset(): void {
    this.#bytes.set(this.#powerOn);
  }

  save(): number[] {
    return Array.from(this.#bytes);
  }

  /** @param bytes all 256 of them */
  restore(bytes: readonly number[]): void {
    this.#bytes.set(bytes);
  }
}
