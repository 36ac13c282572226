/** Adds 16-bit big-endian words to a ones' complement sum that is folded later (RFC 1071). */
export function sum(bytes: Uint8Array, from: number, to: number, start = 0): number {
  let total = start;
  let at = from;
  for (; at + 1 < to; at += 2) total += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return at < to ? total + ((bytes[at] ?? 0) << 8) : total;
}

/** The checksum of a sum: folded to 16 bits and complemented. */
export function fold(total: number): number {
  let folded = total;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x1_0000);
  return ~folded & 0xffff;
}

/** As `fold`, for TCP and UDP: a sum of zero is written as all ones, since UDP's zero means none (RFC 768). */
export const foldTransport = (total: number): number => fold(total) || 0xffff;

export function write16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export const read16 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);

/**
 * Completes a checksum that the sender left undone (virtio 1.3 §5.1.6.2): the field has the pseudo-header's sum, which
 * is summed with all from `start` on.
 */
export function completeChecksum(frame: Uint8Array, length: number, start: number, offset: number): void {
  write16(frame, start + offset, foldTransport(sum(frame, start, length)));
}
