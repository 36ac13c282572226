import { advance, distance } from "./sequence.ts";

interface Fragment {
  sequence: number;
  bytes: Uint8Array;
}

/** One for each KiB of the window, but at least these: a sender of crumbs makes us keep no more bookkeeping than data. */
const LEAST_FRAGMENTS = 16;

/**
 * Segments that came before their time (RFC 9293 §3.10.7.4, "seventh"), in order and without overlaps. The caller has
 * cut them to its window, so what is held is no more than the window.
 */
export class Reassembly {
  #fragments: Fragment[] = [];
  #held = 0;

  get heldBytes(): number {
    return this.#held;
  }

  /** Keeps a copy of what of `bytes` is not held yet. What came first stays. @param window bytes that may be held */
  insert(sequence: number, bytes: Uint8Array, window: number): void {
    const most = Math.max(LEAST_FRAGMENTS, window >>> 10);
    let start = sequence;
    const end = advance(sequence, bytes.length);
    let index = 0;
    while (distance(end, start) > 0 && this.#fragments.length < most) {
      const next = this.#fragments[index];
      if (next !== undefined && distance(start, next.sequence) >= 0) {
        const nextEnd = advance(next.sequence, next.bytes.length);
        if (distance(nextEnd, start) > 0) start = nextEnd;
        index += 1;
        continue;
      }
      const stop = next !== undefined && distance(end, next.sequence) > 0 ? next.sequence : end;
      const from = distance(start, sequence);
      const copy = bytes.slice(from, distance(stop, sequence));
      this.#fragments.splice(index, 0, { sequence: start, bytes: copy });
      this.#held += copy.length;
      start = stop;
      index += 1;
    }
  }

  /** Takes the bytes that start at `sequence`; drops what lies before it. */
  take(sequence: number): Uint8Array | undefined {
    for (;;) {
      const first = this.#fragments[0];
      if (first === undefined) return undefined;
      const skip = distance(sequence, first.sequence);
      if (skip < 0) return undefined;
      this.#fragments.shift();
      this.#held -= first.bytes.length;
      if (skip < first.bytes.length) return skip === 0 ? first.bytes : first.bytes.subarray(skip);
    }
  }

  /**
   * Edges of the SACK blocks to send (RFC 2018 §4): the one that holds `recent` first, then the others, four at most.
   */
  blocks(recent: number, into: number[]): void {
    into.length = 0;
    let from = 0;
    let to = 0;
    for (let index = 0; index <= this.#fragments.length; index += 1) {
      const next = this.#fragments[index];
      if (next !== undefined && index > 0 && next.sequence === to) {
        to = advance(to, next.bytes.length);
        continue;
      }
      if (index > 0) {
        if (distance(recent, from) >= 0 && distance(recent, to) < 0) into.unshift(from, to);
        else if (into.length < 8) into.push(from, to);
      }
      if (next === undefined) break;
      from = next.sequence;
      to = advance(from, next.bytes.length);
    }
    if (into.length > 8) into.length = 8;
  }

  clear(): void {
    this.#fragments = [];
    this.#held = 0;
  }
}
