const SMALLEST = 4096;
/** What is kept for the next taker. */
const MOST_KEPT = 16 << 20;
/** Above this, connections do with little. */
const PLENTY = 64 << 20;

/** Memory that the connections of a back end borrow and give back: nothing is left to collect. */
export class ByteStore {
  /** By capacity, a power of two. */
  readonly #free = new Map<number, Uint8Array[]>();
  #kept = 0;
  #lent = 0;

  /** Bytes that are borrowed now. */
  get lentBytes(): number {
    return this.#lent;
  }

  /** So much is borrowed that whoever has something should not take more. */
  get isScarce(): boolean {
    return this.#lent > PLENTY;
  }

  /** Lends at least `length` bytes, of any content; their number is a power of two. */
  take(length: number): Uint8Array {
    const capacity = length <= SMALLEST ? SMALLEST : 2 ** (32 - Math.clz32(length - 1));
    this.#lent += capacity;
    const bytes = this.#free.get(capacity)?.pop();
    if (bytes === undefined) return new Uint8Array(capacity);
    this.#kept -= capacity;
    return bytes;
  }

  /** Takes back what `take` lent. The lender has no other use for it. */
  giveBack(bytes: Uint8Array): void {
    this.#lent -= bytes.length;
    if (this.#kept + bytes.length > MOST_KEPT) return;
    this.#kept += bytes.length;
    const free = this.#free.get(bytes.length);
    if (free === undefined) this.#free.set(bytes.length, [bytes]);
    else free.push(bytes);
  }
}
