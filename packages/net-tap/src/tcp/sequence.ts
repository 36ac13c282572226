/** Sequence numbers are 32-bit and wrap (RFC 9293 §3.4). Kept unsigned; compared by the sign of the difference. */

/** `a` − `b`, from −2³¹ to 2³¹ − 1. */
export function distance(a: number, b: number): number {
  return (a - b) | 0;
}

export function advance(sequence: number, by: number): number {
  return (sequence + by) >>> 0;
}
