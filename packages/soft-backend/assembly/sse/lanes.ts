/** Building blocks on 128-bit values that WebAssembly lacks as single instructions. */

/** Moves the bytes up by `count`, zeros below (PSLLDQ). */
export function shiftBytesUp(value: v128, count: u32): v128 {
  if (count > 15) return i64x2.splat(0);
  return i8x16.swizzle(value, i8x16.sub(i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), i8x16.splat(<i8>count)));
}

/** Moves the bytes down by `count`, zeros above (PSRLDQ). */
export function shiftBytesDown(value: v128, count: u32): v128 {
  if (count > 15) return i64x2.splat(0);
  return i8x16.swizzle(value, i8x16.add(i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), i8x16.splat(<i8>count)));
}

/** The low halves of two values in one. */
// @ts-ignore: decorator
@inline
export function joinLow(low: v128, high: v128): v128 {
  return i64x2.shuffle(low, high, 0, 2);
}

/** The upper halfwords of the eight 32-bit values in `low` and `high`. */
// @ts-ignore: decorator
@inline
export function upperHalves(low: v128, high: v128): v128 {
  return i16x8.shuffle(low, high, 1, 3, 5, 7, 9, 11, 13, 15);
}

/** `lane` of `value` with a variable lane number. */
export function byteAt(value: v128, lane: u32): u32 {
  return <u32>i8x16.extract_lane_u(i8x16.swizzle(value, i8x16.splat(<i8>lane)), 0);
}

export function wordAt(value: v128, lane: u32): u32 {
  const at = lane << 1;
  return <u32>i16x8.extract_lane_u(i8x16.swizzle(value, i16x8.splat(<i16>(at | ((at + 1) << 8)))), 0);
}

export function dwordAt(value: v128, lane: u32): u32 {
  return <u32>i32x4.extract_lane(i8x16.swizzle(value, i32x4.splat((lane << 2) * 0x01010101 + 0x03020100)), 0);
}

// @ts-ignore: decorator
@inline
export function qwordAt(value: v128, lane: u32): u64 {
  return lane ? <u64>i64x2.extract_lane(value, 1) : <u64>i64x2.extract_lane(value, 0);
}

/** The four dwords of `value` selected by the 2-bit fields of `order` (PSHUFD). */
export function selectDwords(value: v128, order: u32): v128 {
  // Each 2-bit field becomes the byte 4 * field, spread over its dword.
  const packed = (order & 3) | ((order & 0x0c) << 6) | ((order & 0x30) << 12) | ((order & 0xc0) << 18);
  const fields = i8x16.swizzle(i32x4.splat(packed << 2), i8x16(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3));
  return i8x16.swizzle(value, i8x16.add(fields, i32x4.splat(0x03020100)));
}

/** The low four words of `value` selected by the 2-bit fields of `order`, the upper four unchanged (PSHUFLW). */
export function selectLowWords(value: v128, order: u32): v128 {
  return i8x16.swizzle(value, i64x2(<i64>wordOrder(order), 0x0f0e0d0c0b0a0908));
}

/** PSHUFHW. */
export function selectHighWords(value: v128, order: u32): v128 {
  return i8x16.swizzle(value, i64x2(0x0706050403020100, <i64>(wordOrder(order) + 0x0808080808080808)));
}

/** Byte numbers of four words, for a swizzle. */
function wordOrder(order: u32): u64 {
  const fields = <u64>(order & 3) | (<u64>(order & 0x0c) << 14) | (<u64>(order & 0x30) << 28) | (<u64>(order & 0xc0) << 42);
  return fields * 0x0202 + 0x0100010001000100;
}
