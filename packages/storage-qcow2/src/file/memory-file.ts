import { ImageError } from "../image-error.ts";
import type { BlockFile } from "./block-file.ts";

const MAX_BYTES = 2 ** 28;

/** A {@link BlockFile} in memory, at most 256 MiB, for tests of image code without a file system. */
export class MemoryFile implements BlockFile {
  readonly path: string;
  readonly readOnly: boolean;
  #bytes: Uint8Array;
  #size: number;

  constructor(path = "memory", bytes: Uint8Array = new Uint8Array(0), readOnly = false) {
    this.path = path;
    this.readOnly = readOnly;
    this.#bytes = bytes;
    this.#size = bytes.length;
  }

  size(): number {
    return this.#size;
  }

  /** A copy of the content. */
  content(): Uint8Array {
    return this.#bytes.slice(0, this.#size);
  }

  read(offset: number, into: Uint8Array): void {
    const part = this.#bytes.subarray(
      Math.min(offset, this.#size),
      Math.min(offset + into.length, this.#size),
    );
    into.set(part);
    into.fill(0, part.length);
  }

  write(offset: number, from: Uint8Array): void {
    if (offset + from.length > this.#size) this.truncate(offset + from.length);
    this.#bytes.set(from, offset);
  }

  truncate(size: number): void {
    if (size > MAX_BYTES)
      throw new ImageError(this.path, "host", `a file in memory cannot have ${size} bytes`);
    if (size > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(size, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, this.#size));
      this.#bytes = grown;
    }
    if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    this.#size = size;
  }

  punch(offset: number, length: number): boolean {
    this.write(offset, new Uint8Array(length));
    return true;
  }

  sync(): void {
    // Memory is as stable as it gets.
  }

  close(): void {
    // Nothing is held.
  }
}
