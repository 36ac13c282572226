import type { Scheduler } from "../scheduler.ts";

const MOST_DATAGRAMS = 32;
const MOST_PIECES = 128;
const LONGEST = 65_535;
/** RFC 1122 §3.3.2 and RFC 8200 §4.5. */
const PATIENCE_MS = 60_000;

interface Pieces {
  readonly startedMs: number;
  bytes: Uint8Array;
  /** What is there, in order: from and to in turn. */
  ranges: { readonly from: number; readonly to: number }[];
  total: number | undefined;
}

/**
 * Puts the fragments of datagrams together. Overlapping fragments end their datagram (RFC 5722 §4, for IPv4 too), and
 * a guest that begins many loses the oldest: what is held is bounded.
 */
export class Fragments {
  readonly #scheduler: Scheduler;
  readonly #datagrams = new Map<string, Pieces>();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Bytes held for datagrams that are not whole. */
  get heldBytes(): number {
    let total = 0;
    for (const { bytes } of this.#datagrams.values()) total += bytes.length;
    return total;
  }

  /** Takes a fragment; the whole payload once it is there. `key` tells datagrams apart. */
  add(key: string, offset: number, payload: Uint8Array, hasMore: boolean): Uint8Array | undefined {
    const end = offset + payload.length;
    if (end > LONGEST || payload.length === 0 || (hasMore && payload.length % 8 !== 0)) {
      this.#datagrams.delete(key);
      return undefined;
    }
    const pieces = this.#piecesOf(key);
    // The same fragment again is no overlap (RFC 8200 §4.5).
    if (pieces.ranges.some(({ from, to }) => from === offset && to === end)) return undefined;
    const isWrong =
      pieces.ranges.length >= MOST_PIECES ||
      pieces.ranges.some(({ from, to }) => offset < to && end > from) ||
      (pieces.total !== undefined && (end > pieces.total || !hasMore)) ||
      (!hasMore && pieces.ranges.some(({ to }) => to > end));
    if (isWrong) {
      this.#datagrams.delete(key);
      return undefined;
    }
    if (!hasMore) pieces.total = end;
    if (pieces.bytes.length < end) {
      const grown = new Uint8Array(Math.min(LONGEST, Math.max(end, pieces.bytes.length * 2, 2048)));
      grown.set(pieces.bytes);
      pieces.bytes = grown;
    }
    pieces.bytes.set(payload, offset);
    pieces.ranges.push({ from: offset, to: end });
    const held = pieces.ranges.reduce((sum, { from, to }) => sum + to - from, 0);
    if (held !== pieces.total) return undefined;
    this.#datagrams.delete(key);
    return pieces.bytes.subarray(0, held);
  }

  clear(): void {
    this.#datagrams.clear();
  }

  #piecesOf(key: string): Pieces {
    const now = this.#scheduler.nowMs();
    const known = this.#datagrams.get(key);
    if (known !== undefined && now - known.startedMs < PATIENCE_MS) return known;
    this.#datagrams.delete(key);
    for (const [old, { startedMs }] of this.#datagrams) {
      if (this.#datagrams.size < MOST_DATAGRAMS && now - startedMs < PATIENCE_MS) break;
      this.#datagrams.delete(old);
    }
    const fresh: Pieces = { startedMs: now, bytes: new Uint8Array(0), ranges: [], total: undefined };
    this.#datagrams.set(key, fresh);
    return fresh;
  }
}
