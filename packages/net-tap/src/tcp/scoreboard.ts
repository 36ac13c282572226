import { distance } from "./sequence.ts";

interface Range {
  from: number;
  to: number;
}

/** A peer that acknowledges crumbs is not followed further than this. */
const MOST_RANGES = 128;

/** Segments beyond a hole that make the hole lost (DupThresh of RFC 6675 §2). */
const DUPLICATE_THRESHOLD = 3;

/** What the peer holds beyond the acknowledgment (RFC 2018 §5, RFC 6675 §4), in order and without overlaps. */
export class Scoreboard {
  #ranges: Range[] = [];

  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  /** Takes a SACK block that the caller has checked to lie within what was sent. */
  add(from: number, to: number): void {
    let start = from;
    let end = to;
    const kept: Range[] = [];
    let at = 0;
    for (const range of this.#ranges) {
      if (distance(range.to, start) < 0) {
        kept.push(range);
        at = kept.length;
      } else if (distance(range.from, end) > 0) kept.push(range);
      else {
        if (distance(range.from, start) < 0) start = range.from;
        if (distance(range.to, end) > 0) end = range.to;
      }
    }
    if (kept.length >= MOST_RANGES) return;
    kept.splice(at, 0, { from: start, to: end });
    this.#ranges = kept;
  }

  /** Forgets what lies before the cumulative acknowledgment. */
  acknowledge(una: number): void {
    while (this.#ranges[0] !== undefined && distance(this.#ranges[0].to, una) <= 0) this.#ranges.shift();
    const first = this.#ranges[0];
    if (first !== undefined && distance(first.from, una) < 0) first.from = una;
  }

  clear(): void {
    this.#ranges = [];
  }

  /** The first number from `sequence` on that the peer does not hold. */
  skip(sequence: number): number {
    for (const { from, to } of this.#ranges) {
      if (distance(sequence, from) >= 0 && distance(sequence, to) < 0) return to;
    }
    return sequence;
  }

  /** Bytes from `sequence` to the next range that the peer holds; `limit` where there is none. */
  gapAfter(sequence: number, limit: number): number {
    for (const { from } of this.#ranges) {
      const gap = distance(from, sequence);
      if (gap > 0) return Math.min(gap, limit);
    }
    return limit;
  }

  /** Whether what ends at `sequence` is lost by the count of what arrived beyond it (IsLost of RFC 6675 §4). */
  isLost(sequence: number, mss: number): boolean {
    let beyond = 0;
    for (let index = this.#ranges.length - 1; index >= 0; index -= 1) {
      const range = this.#ranges[index];
      if (range === undefined || distance(range.from, sequence) < 0) break;
      beyond += distance(range.to, range.from);
    }
    return beyond > (DUPLICATE_THRESHOLD - 1) * mss;
  }

  /** Where the next lost bytes from `from` on begin, `undefined` where none are. */
  nextLost(from: number, mss: number): number | undefined {
    const start = this.skip(from);
    const last = this.#ranges.at(-1);
    if (last === undefined || distance(last.from, start) <= 0) return undefined;
    return this.isLost(start, mss) ? start : undefined;
  }

  /** Bytes of [una, max) that are on their way (SetPipe of RFC 6675 §4); `resent` is where retransmission has come to. */
  pipe(una: number, max: number, resent: number, mss: number): number {
    let total = 0;
    let start = una;
    for (const range of this.#ranges) {
      total += this.#hole(start, range.from, resent, mss);
      start = range.to;
    }
    return total + this.#hole(start, max, resent, mss);
  }

  #hole(from: number, to: number, resent: number, mss: number): number {
    const length = distance(to, from);
    if (length <= 0) return 0;
    const again = Math.min(length, Math.max(0, distance(resent, from)));
    return (this.isLost(to, mss) ? 0 : length) + again;
  }
}
