/** Bytes in several parts, as an unpacker hands them out: a kernel of 50 MiB need not be copied to be in one piece. */
export class ChunkedBytes {
  readonly length: number;
  readonly #parts: readonly { readonly start: number; readonly bytes: Uint8Array }[];

  constructor(parts: readonly Uint8Array[]) {
    let start = 0;
    this.#parts = parts.map((bytes) => {
      const part = { start, bytes };
      start += bytes.length;
      return part;
    });
    this.length = start;
  }

  /** Views that together are `[offset, offset + length)`, cut off at the end of the bytes. */
  views(offset: number, length: number): Uint8Array[] {
    const views: Uint8Array[] = [];
    for (const { start, bytes } of this.#parts) {
      const from = Math.max(offset - start, 0);
      const to = Math.min(offset + length - start, bytes.length);
      if (from < to) views.push(bytes.subarray(from, to));
    }
    return views;
  }

  /** The same in one piece: a view where it lies in one part, else a copy. */
  slice(offset: number, length: number): Uint8Array {
    const views = this.views(offset, length);
    return views.length === 1 && views[0] !== undefined ? views[0] : Buffer.concat(views);
  }

  /**
   * Gives the memory of all parts back at once, where nothing else lies in the same buffers: the collector sees little
   * reason to hurry for bytes outside its heap, and a guest would start beside tens of MiB of dead kernel.
   */
  release(): void {
    for (const { bytes } of this.#parts) {
      const { buffer } = bytes;
      if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.length) buffer.transfer(0);
    }
  }
}
