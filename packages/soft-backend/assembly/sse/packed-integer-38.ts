/** Integer instructions of the 0F 38 map: SSSE3, SSE4.1, SSE4.2 (Intel SDM vol. 2). */
import { XMM } from "../../src/cpu/layout";
import { aesDecrypt, aesDecryptLast, aesEncrypt, aesEncryptLast, aesInverseMixColumns } from "./aes";
import { joinLow } from "./lanes";

// @ts-ignore: decorator
@inline
function evenWords(a: v128, b: v128): v128 {
  return i16x8.shuffle(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}
// @ts-ignore: decorator
@inline
function oddWords(a: v128, b: v128): v128 {
  return i16x8.shuffle(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}
// @ts-ignore: decorator
@inline
function evenDwords(a: v128, b: v128): v128 {
  return i32x4.shuffle(a, b, 0, 2, 4, 6);
}
// @ts-ignore: decorator
@inline
function oddDwords(a: v128, b: v128): v128 {
  return i32x4.shuffle(a, b, 1, 3, 5, 7);
}

/** Products of unsigned bytes of `a` and signed bytes of `b`, neighbours added with saturation. */
function multiplyAddBytes(a: v128, b: v128): v128 {
  const even = i16x8.mul(v128.and(a, i16x8.splat(0xff)), i16x8.shr_s(i16x8.shl(b, 8), 8));
  const odd = i16x8.mul(i16x8.shr_u(a, 8), i16x8.shr_s(b, 8));
  return i16x8.add_sat_s(even, odd);
}

// @ts-ignore: decorator
@inline
function roundProduct(product: v128): v128 {
  return i32x4.shr_s(i32x4.add(i32x4.shr_s(product, 14), i32x4.splat(1)), 1);
}

/** PMULHRSW. The Q15 instruction of WebAssembly differs: it saturates −1 · −1. */
function multiplyRound(a: v128, b: v128): v128 {
  return evenWords(roundProduct(i32x4.extmul_low_i16x8_s(a, b)), roundProduct(i32x4.extmul_high_i16x8_s(a, b)));
}

function sign8(a: v128, b: v128): v128 {
  const negative = i8x16.shr_s(b, 7);
  return v128.andnot(i8x16.sub(v128.xor(a, negative), negative), i8x16.eq(b, i64x2.splat(0)));
}
function sign16(a: v128, b: v128): v128 {
  const negative = i16x8.shr_s(b, 15);
  return v128.andnot(i16x8.sub(v128.xor(a, negative), negative), i16x8.eq(b, i64x2.splat(0)));
}
function sign32(a: v128, b: v128): v128 {
  const negative = i32x4.shr_s(b, 31);
  return v128.andnot(i32x4.sub(v128.xor(a, negative), negative), i32x4.eq(b, i64x2.splat(0)));
}

/** Horizontal and signed arithmetic of SSSE3, 0F 38 00–0B and 1C–1E. */
export function ssse3(op: u32, a: v128, b: v128): v128 {
  switch (op) {
    case 0x00: return i8x16.swizzle(a, v128.and(b, i8x16.splat(<i8>0x8f)));
    case 0x01: return i16x8.add(evenWords(a, b), oddWords(a, b));
    case 0x02: return i32x4.add(evenDwords(a, b), oddDwords(a, b));
    case 0x03: return i16x8.add_sat_s(evenWords(a, b), oddWords(a, b));
    case 0x04: return multiplyAddBytes(a, b);
    case 0x05: return i16x8.sub(evenWords(a, b), oddWords(a, b));
    case 0x06: return i32x4.sub(evenDwords(a, b), oddDwords(a, b));
    case 0x07: return i16x8.sub_sat_s(evenWords(a, b), oddWords(a, b));
    case 0x08: return sign8(a, b);
    case 0x09: return sign16(a, b);
    case 0x0a: return sign32(a, b);
    case 0x0b: return multiplyRound(a, b);
    case 0x1c: return i8x16.abs(b);
    case 0x1d: return i16x8.abs(b);
    case 0x1e: return i32x4.abs(b);
    default: return unreachable();
  }
}

/** The same for MMX: the result is in the low half. */
export function ssse3Mmx(op: u32, a: v128, b: v128): v128 {
  if (op == 0) return i8x16.swizzle(a, v128.and(b, i8x16.splat(<i8>0x87)));
  if ((op >= 0x01 && op <= 0x03) || (op >= 0x05 && op <= 0x07)) {
    const both = joinLow(a, b);
    return ssse3(op, both, both);
  }
  return ssse3(op, a, b);
}

/** PHMINPOSUW: the smallest word and its position. */
function minimumWord(words: v128): v128 {
  let low = <u64>i64x2.extract_lane(words, 0);
  let high = <u64>i64x2.extract_lane(words, 1);
  let minimum: u32 = 0x10000;
  let position: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) {
    const word = <u32>(low & 0xffff);
    if (word < minimum) {
      minimum = word;
      position = i;
    }
    low = (low >> 16) | (high << 48);
    high >>= 16;
  }
  return i64x2(<i64>(minimum | (position << 16)), 0);
}

/** Blend mask from the sign bits of XMM0, the implicit operand. */
// @ts-ignore: decorator
@inline
function mask(): v128 {
  return v128.load(XMM);
}

/** 66 0F 38 10–41 and DB–DF with two full operands. */
export function packed38(op: u32, a: v128, b: v128): v128 {
  switch (op) {
    case 0x10: return v128.bitselect(b, a, i8x16.shr_s(mask(), 7));
    case 0x14: return v128.bitselect(b, a, i32x4.shr_s(mask(), 31));
    case 0x15: return v128.bitselect(b, a, i64x2.shr_s(mask(), 63));
    case 0x28: return i64x2.mul(i64x2.shr_s(i64x2.shl(a, 32), 32), i64x2.shr_s(i64x2.shl(b, 32), 32));
    case 0x29: return i64x2.eq(a, b);
    case 0x2a: return b;
    case 0x2b: return i16x8.narrow_i32x4_u(a, b);
    case 0x37: return i64x2.gt_s(a, b);
    case 0x38: return i8x16.min_s(a, b);
    case 0x39: return i32x4.min_s(a, b);
    case 0x3a: return i16x8.min_u(a, b);
    case 0x3b: return i32x4.min_u(a, b);
    case 0x3c: return i8x16.max_s(a, b);
    case 0x3d: return i32x4.max_s(a, b);
    case 0x3e: return i16x8.max_u(a, b);
    case 0x3f: return i32x4.max_u(a, b);
    case 0x40: return i32x4.mul(a, b);
    case 0x41: return minimumWord(b);
    case 0xdb: return aesInverseMixColumns(b);
    case 0xdc: return aesEncrypt(a, b);
    case 0xdd: return aesEncryptLast(a, b);
    case 0xde: return aesDecrypt(a, b);
    case 0xdf: return aesDecryptLast(a, b);
    default: return ssse3(op, a, b);
  }
}

/** PMOVSX and PMOVZX; `from` is the host address of as many bytes as the operand has. */
export function extend(op: u32, from: usize): v128 {
  switch (op) {
    case 0x20: return i16x8.extend_low_i8x16_s(v128.load64_zero(from));
    case 0x21: return i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(from)));
    case 0x22: return i64x2(<i64>load<i8>(from), <i64>load<i8>(from, 1));
    case 0x23: return i32x4.extend_low_i16x8_s(v128.load64_zero(from));
    case 0x24: return i64x2(<i64>load<i16>(from), <i64>load<i16>(from, 2));
    case 0x25: return i64x2.extend_low_i32x4_s(v128.load64_zero(from));
    case 0x30: return i16x8.extend_low_i8x16_u(v128.load64_zero(from));
    case 0x31: return i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(from)));
    case 0x32: return i64x2(<i64>load<u8>(from), <i64>load<u8>(from, 1));
    case 0x33: return i32x4.extend_low_i16x8_u(v128.load64_zero(from));
    case 0x34: return i64x2(<i64>load<u16>(from), <i64>load<u16>(from, 2));
    default: return i64x2.extend_low_i32x4_u(v128.load64_zero(from));
  }
}
