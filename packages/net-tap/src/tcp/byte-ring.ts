import type { ByteStore } from "./byte-store.ts";

/** What a queue takes while memory is scarce. */
const LEAST_LIMIT = 65_536;
const nothing: Uint8Array = new Uint8Array(0);

/** A queue of bytes in a ring that grows by doubling up to `limit`. What is empty borrows nothing. */
export class ByteRing {
  readonly #limit: number;
  readonly #store: ByteStore;
  /** A power of two long, or empty. */
  #bytes: Uint8Array = nothing;
  #head = 0;
  #length = 0;

  constructor(limit: number, store: ByteStore) {
    this.#limit = limit;
    this.#store = store;
  }

  get length(): number {
    return this.#length;
  }

  /** Room left below the limit, which is lower while memory is scarce. Zero when a last large chunk went over it. */
  get room(): number {
    const limit = this.#store.isScarce ? Math.min(LEAST_LIMIT, this.#limit) : this.#limit;
    return Math.max(0, limit - this.#length);
  }

  /** Appends all of `chunk`, over the limit if need be: a stream's chunk cannot be given back. */
  append(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#reserve(this.#length + chunk.length);
    const tail = (this.#head + this.#length) & (this.#bytes.length - 1);
    const first = Math.min(chunk.length, this.#bytes.length - tail);
    this.#bytes.set(first === chunk.length ? chunk : chunk.subarray(0, first), tail);
    if (first < chunk.length) this.#bytes.set(chunk.subarray(first), 0);
    this.#length += chunk.length;
  }

  /** Copies `length` bytes from `offset` after the front to `into[at…]`. They must be there. */
  copy(offset: number, length: number, into: Uint8Array, at: number): void {
    if (length === 0) return;
    const from = (this.#head + offset) & (this.#bytes.length - 1);
    const first = Math.min(length, this.#bytes.length - from);
    into.set(this.#bytes.subarray(from, from + first), at);
    if (first < length) into.set(this.#bytes.subarray(0, length - first), at + first);
  }

  drop(length: number): void {
    this.#length -= length;
    if (this.#length === 0) this.clear();
    else this.#head = (this.#head + length) & (this.#bytes.length - 1);
  }

  clear(): void {
    this.#length = 0;
    this.#head = 0;
    if (this.#bytes.length > 0) this.#store.giveBack(this.#bytes);
    this.#bytes = nothing;
  }

  #reserve(length: number): void {
    if (length <= this.#bytes.length) return;
    const grown = this.#store.take(length);
    const held = this.#length;
    this.copy(0, held, grown, 0);
    this.clear();
    this.#bytes = grown;
    this.#length = held;
  }
}
