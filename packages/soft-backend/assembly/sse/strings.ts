/** PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI (Intel SDM 1 §5.11, vol. 2 §4.1). */
import { GPR, XMM } from "../../src/cpu/layout";
import { CODE_REXW } from "./code";
import { setZPC } from "./flags-hook";
import { byteAt, wordAt } from "./lanes";

const RAX = GPR;
const RCX = GPR + 8;
const RDX = GPR + 16;

// Aggregation, imm8[3:2].
const EQUAL_ANY: u32 = 0;
const RANGES: u32 = 1;
const EQUAL_EACH: u32 = 2;

/** Length in RAX or RDX: the absolute value, at most all elements. */
function explicitLength(register: usize, rexw: bool, elements: u32): u32 {
  const value = rexw ? load<i64>(register) : <i64>load<i32>(register);
  const magnitude = <u64>(value < 0 ? 0 - value : value);
  return magnitude < <u64>elements ? <u32>magnitude : elements;
}

/** Elements before the first zero. */
function implicitLength(value: v128, words: bool, elements: u32): u32 {
  const zero = i64x2.splat(0);
  const zeros = <u32>(words ? i16x8.bitmask(i16x8.eq(value, zero)) : i8x16.bitmask(i8x16.eq(value, zero)));
  return ctz(zeros | (1 << elements));
}

// @ts-ignore: decorator
@inline
function splat(value: v128, i: u32, words: bool): v128 {
  return words ? i16x8.splat(<i16>wordAt(value, i)) : i8x16.splat(<i8>byteAt(value, i));
}

/** One bit per element that equals. */
// @ts-ignore: decorator
@inline
function equal(a: v128, b: v128, words: bool): u32 {
  return <u32>(words ? i16x8.bitmask(i16x8.eq(a, b)) : i8x16.bitmask(i8x16.eq(a, b)));
}

/** One bit per element of `value` in [low, high]; `format` is imm8[1:0]. */
function within(value: v128, low: v128, high: v128, format: u32): u32 {
  switch (format) {
    case 0:
      return i8x16.bitmask(v128.and(i8x16.ge_u(value, low), i8x16.le_u(value, high)));
    case 1:
      return i16x8.bitmask(v128.and(i16x8.ge_u(value, low), i16x8.le_u(value, high)));
    case 2:
      return i8x16.bitmask(v128.and(i8x16.ge_s(value, low), i8x16.le_s(value, high)));
    default:
      return i16x8.bitmask(v128.and(i16x8.ge_s(value, low), i16x8.le_s(value, high)));
  }
}

/** IntRes1: `a` is the first operand (the set, the ranges or the needle), `b` the second. */
function aggregate(a: v128, aLength: u32, b: v128, bLength: u32, imm: u32, all: u32): u32 {
  const words = (imm & 1) != 0;
  const bValid: u32 = (1 << bLength) - 1;
  let result: u32 = 0;
  switch ((imm >> 2) & 3) {
    case EQUAL_ANY:
      for (let i: u32 = 0; i < aLength; i++) result |= equal(splat(a, i, words), b, words);
      return result & bValid;
    case RANGES:
      for (let i: u32 = 0; i + 1 < aLength; i += 2) {
        result |= within(b, splat(a, i, words), splat(a, i + 1, words), imm & 3);
      }
      return result & bValid;
    case EQUAL_EACH: {
      const aValid: u32 = (1 << aLength) - 1;
      return (equal(a, b, words) & aValid & bValid) | (all & ~aValid & ~bValid);
    }
    default: // Equal ordered: a match may run off the end.
      result = all;
      for (let i: u32 = 0; i < aLength; i++) {
        const matches = equal(splat(a, i, words), b, words) & bValid;
        result &= (matches >> i) | ~(all >> i);
      }
      return result & all;
  }
}

/** Bytes or words that are all ones where the bit is set. */
function expand(bits: u32, words: bool): v128 {
  if (words) {
    const select = i16x8(1, 2, 4, 8, 16, 32, 64, 128);
    return i16x8.eq(v128.and(i16x8.splat(<i16>bits), select), select);
  }
  const select = i8x16(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  const spread = i64x2.shuffle(i8x16.splat(<i8>bits), i8x16.splat(<i8>(bits >> 8)), 0, 2);
  return i8x16.eq(v128.and(spread, select), select);
}

/** Executes 66 0F 3A 60–63 including the flags and the result in XMM0 or ECX. */
export function compareStrings(op: u32, code: u32, a: v128, b: v128, imm: u32): void {
  const words = (imm & 1) != 0;
  const elements: u32 = words ? 8 : 16;
  const all: u32 = (1 << elements) - 1;
  let aLength: u32;
  let bLength: u32;
  if (op < 0x62) {
    const rexw = (code & CODE_REXW) != 0;
    aLength = explicitLength(RAX, rexw, elements);
    bLength = explicitLength(RDX, rexw, elements);
  } else {
    aLength = implicitLength(a, words, elements);
    bLength = implicitLength(b, words, elements);
  }

  let result = aggregate(a, aLength, b, bLength, imm, all);
  if (imm & 0x10) result ^= imm & 0x20 ? (1 << bLength) - 1 : all;

  if (op & 1) {
    const index = result == 0 ? elements : imm & 0x40 ? 31 - clz(result) : ctz(result);
    store<u64>(RCX, index);
  } else {
    v128.store(XMM, imm & 0x40 ? expand(result, words) : i64x2(result, 0));
  }
  setZPC(bLength < elements, false, result != 0, aLength < elements, (result & 1) != 0);
}
