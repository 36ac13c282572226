/** A queue of bytes in a ring that grows by doubling up to `limit`; what an idle connection holds is 4 KiB at most. */
export class ByteRing {
  readonly #limit: number;
  #bytes = new Uint8Array(0);
  #head = 0;
  #length = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get length(): number {
    return this.#length;
  }

  /** Room left below the limit. Zero when a last large chunk went over it. */
  get room(): number {
    return Math.max(0, this.#limit - this.#length);
  }

  /** Appends all of `chunk`, over the limit if need be: a stream's chunk cannot be given back. */
  append(chunk: Uint8Array): void {
    this.#reserve(this.#length + chunk.length);
    const tail = (this.#head + this.#length) % this.#bytes.length;
    const first = Math.min(chunk.length, this.#bytes.length - tail);
    this.#bytes.set(first === chunk.length ? chunk : chunk.subarray(0, first), tail);
    if (first < chunk.length) this.#bytes.set(chunk.subarray(first), 0);
    this.#length += chunk.length;
  }

  /** Copies `length` bytes from `offset` after the front to `into[at…]`. They must be there. */
  copy(offset: number, length: number, into: Uint8Array, at: number): void {
    if (length === 0) return;
    const from = (this.#head + offset) % this.#bytes.length;
    const first = Math.min(length, this.#bytes.length - from);
    into.set(this.#bytes.subarray(from, from + first), at);
    if (first < length) into.set(this.#bytes.subarray(0, length - first), at + first);
  }

  drop(length: number): void {
    this.#length -= length;
    this.#head = this.#length === 0 ? 0 : (this.#head + length) % this.#bytes.length;
    if (this.#length === 0 && this.#bytes.length > 4096) this.#bytes = new Uint8Array(0);
  }

  #reserve(length: number): void {
    if (length <= this.#bytes.length) return;
    let capacity = Math.max(4096, this.#bytes.length);
    while (capacity < length) capacity *= 2;
    const grown = new Uint8Array(capacity);
    this.copy(0, this.#length, grown, 0);
    this.#bytes = grown;
    this.#head = 0;
  }
}
