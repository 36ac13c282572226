import { get16 } from "./bytes.ts";

/**
 * Adds the 16-bit words of `bytes[from, to)` to a running ones' complement sum (RFC 1071 §4.1). Pass `sum` on to the
 * next range; every range but the last has an even length.
 */
export function addToSum(bytes: Uint8Array, from: number, to: number, sum: number): number {
  let total = sum;
  let at = from;
  const even = from + ((to - from) & ~1);
  for (; at < even; at += 2) total += get16(bytes, at);
  if (at < to) total += (bytes[at] ?? 0) << 8;
  // 65 535 bytes add less than 2^31: folding once per range keeps the sum exact.
  return (total & 0xffff) + (total >>> 16);
}

/** Folds a running sum to the 16 bits of the checksum field (RFC 1071 §1). */
export function foldSum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return ~folded & 0xffff;
}

/** Internet checksum of `bytes[from, to)`. Zero where the range contains its own right checksum. */
export function checksum(bytes: Uint8Array, from: number, to: number): number {
  return foldSum(addToSum(bytes, from, to, 0));
}
