/** Two-operand integer instructions of the 0F map, MMX and SSE2 (Intel SDM vol. 2). */
import { joinLow, upperHalves } from "./lanes";

// @ts-ignore: decorator
@inline
function count(value: v128): u64 {
  return <u64>i64x2.extract_lane(value, 0);
}

/** The logical shifts clear everything once the count reaches the width; the arithmetic ones stop at width − 1. */
export function shiftLeft16(value: v128, by: u64): v128 {
  return by > 15 ? i64x2.splat(0) : i16x8.shl(value, <i32>by);
}
export function shiftLeft32(value: v128, by: u64): v128 {
  return by > 31 ? i64x2.splat(0) : i32x4.shl(value, <i32>by);
}
export function shiftLeft64(value: v128, by: u64): v128 {
  return by > 63 ? i64x2.splat(0) : i64x2.shl(value, <i32>by);
}
export function shiftRight16(value: v128, by: u64): v128 {
  return by > 15 ? i64x2.splat(0) : i16x8.shr_u(value, <i32>by);
}
export function shiftRight32(value: v128, by: u64): v128 {
  return by > 31 ? i64x2.splat(0) : i32x4.shr_u(value, <i32>by);
}
export function shiftRight64(value: v128, by: u64): v128 {
  return by > 63 ? i64x2.splat(0) : i64x2.shr_u(value, <i32>by);
}
export function shiftArithmetic16(value: v128, by: u64): v128 {
  return i16x8.shr_s(value, by > 15 ? 15 : <i32>by);
}
export function shiftArithmetic32(value: v128, by: u64): v128 {
  return i32x4.shr_s(value, by > 31 ? 31 : <i32>by);
}

function sumOfDifferences(a: v128, b: v128): v128 {
  const differences = v128.or(i8x16.sub_sat_u(a, b), i8x16.sub_sat_u(b, a));
  const quads = i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(differences));
  return i64x2.add(v128.and(quads, i64x2.splat(0xffffffff)), i64x2.shr_u(quads, 32));
}

/** Result of `op` (second opcode byte 60–76, D1–FE) with destination `a` and source `b`. */
export function packedInteger(op: u32, a: v128, b: v128): v128 {
  switch (op) {
    case 0x60: return i8x16.shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    case 0x61: return i16x8.shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    case 0x62: return i32x4.shuffle(a, b, 0, 4, 1, 5);
    case 0x63: return i8x16.narrow_i16x8_s(a, b);
    case 0x64: return i8x16.gt_s(a, b);
    case 0x65: return i16x8.gt_s(a, b);
    case 0x66: return i32x4.gt_s(a, b);
    case 0x67: return i8x16.narrow_i16x8_u(a, b);
    case 0x68: return i8x16.shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    case 0x69: return i16x8.shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    case 0x6a: return i32x4.shuffle(a, b, 2, 6, 3, 7);
    case 0x6b: return i16x8.narrow_i32x4_s(a, b);
    case 0x6c: return i64x2.shuffle(a, b, 0, 2);
    case 0x6d: return i64x2.shuffle(a, b, 1, 3);
    case 0x74: return i8x16.eq(a, b);
    case 0x75: return i16x8.eq(a, b);
    case 0x76: return i32x4.eq(a, b);
    default: return packedArithmetic(op, a, b);
  }
}

function packedArithmetic(op: u32, a: v128, b: v128): v128 {
  switch (op) {
    case 0xd1: return shiftRight16(a, count(b));
    case 0xd2: return shiftRight32(a, count(b));
    case 0xd3: return shiftRight64(a, count(b));
    case 0xd4: return i64x2.add(a, b);
    case 0xd5: return i16x8.mul(a, b);
    case 0xd8: return i8x16.sub_sat_u(a, b);
    case 0xd9: return i16x8.sub_sat_u(a, b);
    case 0xda: return i8x16.min_u(a, b);
    case 0xdb: return v128.and(a, b);
    case 0xdc: return i8x16.add_sat_u(a, b);
    case 0xdd: return i16x8.add_sat_u(a, b);
    case 0xde: return i8x16.max_u(a, b);
    case 0xdf: return v128.andnot(b, a);
    case 0xe0: return i8x16.avgr_u(a, b);
    case 0xe1: return shiftArithmetic16(a, count(b));
    case 0xe2: return shiftArithmetic32(a, count(b));
    case 0xe3: return i16x8.avgr_u(a, b);
    case 0xe4: return upperHalves(i32x4.extmul_low_i16x8_u(a, b), i32x4.extmul_high_i16x8_u(a, b));
    case 0xe5: return upperHalves(i32x4.extmul_low_i16x8_s(a, b), i32x4.extmul_high_i16x8_s(a, b));
    case 0xe8: return i8x16.sub_sat_s(a, b);
    case 0xe9: return i16x8.sub_sat_s(a, b);
    case 0xea: return i16x8.min_s(a, b);
    case 0xeb: return v128.or(a, b);
    case 0xec: return i8x16.add_sat_s(a, b);
    case 0xed: return i16x8.add_sat_s(a, b);
    case 0xee: return i16x8.max_s(a, b);
    case 0xef: return v128.xor(a, b);
    case 0xf1: return shiftLeft16(a, count(b));
    case 0xf2: return shiftLeft32(a, count(b));
    case 0xf3: return shiftLeft64(a, count(b));
    case 0xf4: return i64x2.mul(v128.and(a, i64x2.splat(0xffffffff)), v128.and(b, i64x2.splat(0xffffffff)));
    case 0xf5: return i32x4.dot_i16x8_s(a, b);
    case 0xf6: return sumOfDifferences(a, b);
    case 0xf8: return i8x16.sub(a, b);
    case 0xf9: return i16x8.sub(a, b);
    case 0xfa: return i32x4.sub(a, b);
    case 0xfb: return i64x2.sub(a, b);
    case 0xfc: return i8x16.add(a, b);
    case 0xfd: return i16x8.add(a, b);
    case 0xfe: return i32x4.add(a, b);
    default: return unreachable();
  }
}

/** The same for MMX: the result is in the low half. */
export function packedIntegerMmx(op: u32, a: v128, b: v128): v128 {
  switch (op) {
    case 0x63: // The packs narrow both operands into one half.
    case 0x67:
    case 0x6b: {
      const both = joinLow(a, b);
      return packedInteger(op, both, both);
    }
    case 0x68: // Interleaved high halves are the upper half of interleaved whole operands.
    case 0x69:
    case 0x6a: {
      const interleaved = packedInteger(op - 8, a, b);
      return i64x2.shuffle(interleaved, interleaved, 1, 1);
    }
    default:
      return packedInteger(op, a, b);
  }
}

/** Groups 12, 13 and 14 (0F 71, 72, 73): shift by an immediate, `operation` is ModRM.reg. */
export function shiftImmediate(op: u32, operation: u32, value: v128, by: u64): v128 {
  switch ((op << 3) | operation) {
    case 0x38a: return shiftRight16(value, by);
    case 0x38c: return shiftArithmetic16(value, by);
    case 0x38e: return shiftLeft16(value, by);
    case 0x392: return shiftRight32(value, by);
    case 0x394: return shiftArithmetic32(value, by);
    case 0x396: return shiftLeft32(value, by);
    case 0x39a: return shiftRight64(value, by);
    default: return shiftLeft64(value, by);
  }
}
