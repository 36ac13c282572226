/** Selections by an immediate: shuffles, blends, inserts, extracts, PALIGNR (Intel SDM vol. 2). */
import { CODE_REGISTER } from "./code";
import { dwordAt, selectDwords, shiftBytesDown, shiftBytesUp, wordAt } from "./lanes";

/** SHUFPS. */
export function shufflePs(a: v128, b: v128, order: u32): v128 {
  return i64x2.shuffle(selectDwords(a, order), selectDwords(b, order), 0, 3);
}

/** SHUFPD. */
export function shufflePd(a: v128, b: v128, order: u32): v128 {
  const low = order & 1 ? i64x2.shuffle(a, a, 1, 1) : a;
  const high = order & 2 ? b : i64x2.shuffle(b, b, 0, 0);
  return i64x2.shuffle(low, high, 0, 3);
}

/** PALIGNR: bytes `count` … `count + 15` of `low` followed by `high`. */
export function alignRight(high: v128, low: v128, count: u32): v128 {
  if (count > 15) return shiftBytesDown(high, count - 16);
  return v128.or(shiftBytesDown(low, count), shiftBytesUp(high, 16 - count));
}

/** PALIGNR on MMX registers. */
export function alignRightMmx(high: u64, low: u64, count: u32): u64 {
  const bits = count << 3;
  if (bits >= 128) return 0;
  if (bits >= 64) return high >> (bits - 64);
  return bits ? (low >> bits) | (high << (64 - bits)) : low;
}

/** Lanes of a blend mask from the low bits of an immediate. */
export function blendWords(a: v128, b: v128, select: u32): v128 {
  const bits = i16x8(1, 2, 4, 8, 16, 32, 64, 128);
  return v128.bitselect(b, a, i16x8.eq(v128.and(i16x8.splat(<i16>select), bits), bits));
}
export function blendDwords(a: v128, b: v128, select: u32): v128 {
  const bits = i32x4(1, 2, 4, 8);
  return v128.bitselect(b, a, i32x4.eq(v128.and(i32x4.splat(<i32>select), bits), bits));
}
export function blendQwords(a: v128, b: v128, select: u32): v128 {
  return i64x2.shuffle(select & 1 ? b : a, select & 2 ? b : a, 0, 3);
}

/** PSHUFW. */
export function selectWordsMmx(value: u64, order: u32): u64 {
  return (
    ((value >> ((order & 3) << 4)) & 0xffff) |
    (((value >> (((order >> 2) & 3) << 4)) & 0xffff) << 16) |
    (((value >> (((order >> 4) & 3) << 4)) & 0xffff) << 32) |
    (((value >> (((order >> 6) & 3) << 4)) & 0xffff) << 48)
  );
}

/** INSERTPS: count_s chooses the source lane (registers only), count_d the destination, the low bits clear lanes. */
export function insertPs(code: u32, reg: usize, rm: usize, imm: u32): void {
  const value = code & CODE_REGISTER ? dwordAt(v128.load(rm), imm >> 6) : load<u32>(rm);
  store<u32>(reg + (((imm >> 4) & 3) << 2), value);
  if (imm & 1) store<u32>(reg, 0);
  if (imm & 2) store<u32>(reg, 0, 4);
  if (imm & 4) store<u32>(reg, 0, 8);
  if (imm & 8) store<u32>(reg, 0, 12);
}

/** PEXTRB, PEXTRW to r/m: a register receives the value zero-extended. */
export function extractByte(code: u32, reg: usize, rm: usize, imm: u32): void {
  const value = load<u8>(reg + (imm & 15));
  if (code & CODE_REGISTER) store<u64>(rm, value);
  else store<u8>(rm, value);
}
export function extractWord(code: u32, reg: usize, rm: usize, imm: u32): void {
  const value = wordAt(v128.load(reg), imm & 7);
  if (code & CODE_REGISTER) store<u64>(rm, value);
  else store<u16>(rm, <u16>value);
}

/** MPSADBW: eight sums of absolute differences of four bytes. */
export function multipleSums(a: v128, b: v128, imm: u32): v128 {
  const window = shiftBytesDown(a, imm & 4);
  const block = selectDwords(b, (imm & 3) * 0x55);
  let sums = absoluteDifference(window, i8x16.shuffle(block, block, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  sums = i16x8.add(
    sums,
    absoluteDifference(shiftBytesDown(window, 1), i8x16.shuffle(block, block, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)),
  );
  sums = i16x8.add(
    sums,
    absoluteDifference(shiftBytesDown(window, 2), i8x16.shuffle(block, block, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)),
  );
  return i16x8.add(
    sums,
    absoluteDifference(shiftBytesDown(window, 3), i8x16.shuffle(block, block, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3)),
  );
}

/** Of the low eight bytes, widened to words. */
function absoluteDifference(a: v128, b: v128): v128 {
  return i16x8.extend_low_i8x16_u(v128.or(i8x16.sub_sat_u(a, b), i8x16.sub_sat_u(b, a)));
}
