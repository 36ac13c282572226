/**
 * AES-NI round functions (FIPS 197, Intel SDM vol. 2). The S-boxes are sixteen constant rows each: a swizzle yields zero
 * for every byte outside its row, so the rows combine by OR and no table occupies memory.
 */

function substitute(bytes: v128): v128 {
  let result = i8x16.swizzle(i32x4(0x7b777c63, <i32>0xc56f6bf2, 0x2b670130, 0x76abd7fe), bytes);
  result = v128.or(result, i8x16.swizzle(i32x4(0x7dc982ca, <i32>0xf04759fa, <i32>0xafa2d4ad, <i32>0xc072a49c), i8x16.sub(bytes, i8x16.splat(16))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x2693fdb7, <i32>0xccf73f36, <i32>0xf1e5a534, 0x1531d871), i8x16.sub(bytes, i8x16.splat(32))));
  result = v128.or(result, i8x16.swizzle(i32x4(<i32>0xc323c704, <i32>0x9a059618, <i32>0xe2801207, 0x75b227eb), i8x16.sub(bytes, i8x16.splat(48))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x1a2c8309, <i32>0xa05a6e1b, <i32>0xb3d63b52, <i32>0x842fe329), i8x16.sub(bytes, i8x16.splat(64))));
  result = v128.or(result, i8x16.swizzle(i32x4(<i32>0xed00d153, 0x5bb1fc20, 0x39becb6a, <i32>0xcf584c4a), i8x16.sub(bytes, i8x16.splat(80))));
  result = v128.or(result, i8x16.swizzle(i32x4(<i32>0xfbaaefd0, <i32>0x85334d43, 0x7f02f945, <i32>0xa89f3c50), i8x16.sub(bytes, i8x16.splat(96))));
  result = v128.or(result, i8x16.swizzle(i32x4(<i32>0x8f40a351, <i32>0xf5389d92, 0x21dab6bc, <i32>0xd2f3ff10), i8x16.sub(bytes, i8x16.splat(112))));
  result = v128.or(result, i8x16.swizzle(i32x4(<i32>0xec130ccd, 0x1744975f, 0x3d7ea7c4, 0x73195d64), i8x16.sub(bytes, i8x16.splat(<i8>128))));
  result = v128.or(result, i8x16.swizzle(i32x4(<i32>0xdc4f8160, <i32>0x88902a22, 0x14b8ee46, <i32>0xdb0b5ede), i8x16.sub(bytes, i8x16.splat(<i8>144))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x0a3a32e0, 0x5c240649, 0x62acd3c2, 0x79e49591), i8x16.sub(bytes, i8x16.splat(<i8>160))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x6d37c8e7, <i32>0xa94ed58d, <i32>0xeaf4566c, 0x08ae7a65), i8x16.sub(bytes, i8x16.splat(<i8>176))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x2e2578ba, <i32>0xc6b4a61c, 0x1f74dde8, <i32>0x8a8bbd4b), i8x16.sub(bytes, i8x16.splat(<i8>192))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x66b53e70, 0x0ef60348, <i32>0xb9573561, <i32>0x9e1dc186), i8x16.sub(bytes, i8x16.splat(<i8>208))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x1198f8e1, <i32>0x948ed969, <i32>0xe9871e9b, <i32>0xdf2855ce), i8x16.sub(bytes, i8x16.splat(<i8>224))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x0d89a18c, 0x6842e6bf, 0x0f2d9941, 0x16bb54b0), i8x16.sub(bytes, i8x16.splat(<i8>240))));
  return result;
}

function substituteInverse(bytes: v128): v128 {
  let result = i8x16.swizzle(i32x4(<i32>0xd56a0952, 0x38a53630, <i32>0x9ea340bf, <i32>0xfbd7f381), bytes);
  result = v128.or(result, i8x16.swizzle(i32x4(<i32>0x8239e37c, <i32>0x87ff2f9b, 0x44438e34, <i32>0xcbe9dec4), i8x16.sub(bytes, i8x16.splat(16))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x32947b54, 0x3d23c2a6, 0x0b954cee, 0x4ec3fa42), i8x16.sub(bytes, i8x16.splat(32))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x66a12e08, <i32>0xb224d928, 0x49a25b76, 0x25d18b6d), i8x16.sub(bytes, i8x16.splat(48))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x64f6f872, 0x16986886, <i32>0xcc5ca4d4, <i32>0x92b6655d), i8x16.sub(bytes, i8x16.splat(64))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x5048706c, <i32>0xdab9edfd, 0x5746155e, <i32>0x849d8da7), i8x16.sub(bytes, i8x16.splat(80))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x00abd890, 0x0ad3bc8c, 0x0558e4f7, 0x0645b3b8), i8x16.sub(bytes, i8x16.splat(96))));
  result = v128.or(result, i8x16.swizzle(i32x4(<i32>0x8f1e2cd0, 0x020f3fca, 0x03bdafc1, 0x6b8a1301), i8x16.sub(bytes, i8x16.splat(112))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x4111913a, <i32>0xeadc674f, <i32>0xcecff297, 0x73e6b4f0), i8x16.sub(bytes, i8x16.splat(<i8>128))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x2274ac96, <i32>0x8535ade7, <i32>0xe837f9e2, 0x6edf751c), i8x16.sub(bytes, i8x16.splat(<i8>144))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x711af147, <i32>0x89c5291d, 0x0e62b76f, 0x1bbe18aa), i8x16.sub(bytes, i8x16.splat(<i8>160))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x4b3e56fc, 0x2079d2c6, <i32>0xfec0db9a, <i32>0xf45acd78), i8x16.sub(bytes, i8x16.splat(<i8>176))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x33a8dd1f, 0x31c70788, 0x591012b1, 0x5fec8027), i8x16.sub(bytes, i8x16.splat(<i8>192))));
  result = v128.or(result, i8x16.swizzle(i32x4(<i32>0xa97f5160, 0x0d4ab519, <i32>0x9f7ae52d, <i32>0xef9cc993), i8x16.sub(bytes, i8x16.splat(<i8>208))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x4d3be0a0, <i32>0xb0f52aae, 0x3cbbebc8, 0x61995383), i8x16.sub(bytes, i8x16.splat(<i8>224))));
  result = v128.or(result, i8x16.swizzle(i32x4(0x7e042b17, 0x26d677ba, 0x631469e1, 0x7d0c2155), i8x16.sub(bytes, i8x16.splat(<i8>240))));
  return result;
}

// @ts-ignore: decorator
@inline
function shiftRows(state: v128): v128 {
  return i8x16.shuffle(state, state, 0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11);
}

// @ts-ignore: decorator
@inline
function shiftRowsInverse(state: v128): v128 {
  return i8x16.shuffle(state, state, 0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3);
}

/** Each byte times x in GF(2⁸). */
// @ts-ignore: decorator
@inline
function timesTwo(bytes: v128): v128 {
  return v128.xor(i8x16.shl(bytes, 1), v128.and(i8x16.shr_s(bytes, 7), i8x16.splat(0x1b)));
}

/** Rotates every column by one byte. */
// @ts-ignore: decorator
@inline
function rotateColumns(state: v128): v128 {
  return i8x16.shuffle(state, state, 1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12);
}

function mixColumns(state: v128): v128 {
  const next = rotateColumns(state);
  const pair = v128.xor(state, next);
  const other = i8x16.shuffle(pair, pair, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  return v128.xor(v128.xor(timesTwo(pair), next), other);
}

/** AESIMC. The inverse matrix is the forward one times {4, 0, 5, 0}. */
export function aesInverseMixColumns(state: v128): v128 {
  const opposite = i8x16.shuffle(state, state, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  const quadruple = timesTwo(timesTwo(v128.xor(state, opposite)));
  return mixColumns(v128.xor(state, quadruple));
}

/** AESENC. */
export function aesEncrypt(state: v128, key: v128): v128 {
  return v128.xor(mixColumns(substitute(shiftRows(state))), key);
}

/** AESENCLAST. */
export function aesEncryptLast(state: v128, key: v128): v128 {
  return v128.xor(substitute(shiftRows(state)), key);
}

/** AESDEC. */
export function aesDecrypt(state: v128, key: v128): v128 {
  return v128.xor(aesInverseMixColumns(substituteInverse(shiftRowsInverse(state))), key);
}

/** AESDECLAST. */
export function aesDecryptLast(state: v128, key: v128): v128 {
  return v128.xor(substituteInverse(shiftRowsInverse(state)), key);
}

/** AESKEYGENASSIST. */
export function aesKeyAssist(key: v128, roundConstant: u32): v128 {
  const words = substitute(i32x4.shuffle(key, key, 1, 1, 3, 3));
  const rotated = rotateColumns(words);
  return v128.xor(i32x4.shuffle(words, rotated, 0, 5, 2, 7), i32x4(0, roundConstant, 0, roundConstant));
}

/** PCLMULQDQ: bits 0 and 4 of `select` choose the halves. */
export function carrylessMultiply(a: v128, b: v128, select: u32): v128 {
  const left = <u64>(select & 1 ? i64x2.extract_lane(a, 1) : i64x2.extract_lane(a, 0));
  let right = <u64>(select & 16 ? i64x2.extract_lane(b, 1) : i64x2.extract_lane(b, 0));
  let low: u64 = 0;
  let high: u64 = 0;
  while (right) {
    const shift = ctz(right);
    low ^= left << shift;
    high ^= (left >> 1) >> (63 - shift);
    right &= right - 1;
  }
  return i64x2(<i64>low, <i64>high);
}
