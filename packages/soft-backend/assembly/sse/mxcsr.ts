/** The link between MXCSR and the arithmetic (Intel SDM 1 §10.2.3, §11.5). */
import { MXCSR } from "../../src/cpu/layout";
import { sfClearFlags, sfFlags, sfMasks, sfUseMxcsr } from "../softfloat/environment";

/**
 * Nearest rounding, everything masked and PE already set: then the arithmetic of WebAssembly on normal numbers is that of
 * the instruction, flags included. DAZ and FTZ do not matter where no operand is a denormal and no result is tiny.
 */
// @ts-ignore: decorator
@inline
export function plainRounding(): bool {
  return (load<u32>(MXCSR) & 0x7fa0) == 0x1fa0;
}

/** Prepares softfloat for one instruction. */
export function beginFloat(): void {
  sfUseMxcsr(load<u32>(MXCSR));
  sfClearFlags();
}

/** Adds the flags raised since `beginFloat` to MXCSR. Vector 19 if one is unmasked: the instruction writes nothing. */
export function endFloat(): i32 {
  const unmasked = sfFlags & ~sfMasks;
  // Exceptions found before computing hide those of the results of other elements.
  const flags = unmasked & 7 ? sfFlags & 7 : sfFlags;
  store<u32>(MXCSR, load<u32>(MXCSR) | flags);
  return unmasked ? 19 : 0;
}

/** A normal number well inside the range, so that a result rounded to it raised neither OE nor UE. */
// @ts-ignore: decorator
@inline
export function ordinary64(bits: u64): bool {
  return (<u32>(bits >> 52) & 0x7ff) - 2 < 0x7fd;
}
// @ts-ignore: decorator
@inline
export function ordinary32(bits: u32): bool {
  return ((bits >> 23) & 0xff) - 2 < 0xfd;
}

/** Normal or zero: not a denormal, whose use would raise DE. NaN and infinity count as normal here. */
// @ts-ignore: decorator
@inline
export function notDenormal64(bits: u64): bool {
  return ((bits >> 52) & 0x7ff) != 0 || bits << 1 == 0;
}
// @ts-ignore: decorator
@inline
export function notDenormal32(bits: u32): bool {
  return ((bits >> 23) & 0xff) != 0 || bits << 1 == 0;
}

/** The same of every lane, as masks. */
// @ts-ignore: decorator
@inline
export function ordinary32x4(value: v128): v128 {
  const exponent = i32x4.shr_u(i32x4.shl(value, 1), 24);
  return i32x4.lt_u(i32x4.sub(exponent, i32x4.splat(2)), i32x4.splat(0xfd));
}
// @ts-ignore: decorator
@inline
export function ordinary64x2(value: v128): v128 {
  // 2 ≤ exponent ≤ 2046. There is no unsigned comparison of 64-bit lanes; these are small.
  const exponent = i64x2.shr_u(i64x2.shl(value, 1), 53);
  return v128.and(i64x2.gt_s(exponent, i64x2.splat(1)), i64x2.lt_s(exponent, i64x2.splat(0x7ff)));
}
// @ts-ignore: decorator
@inline
export function isZero32x4(value: v128): v128 {
  return i32x4.eq(i32x4.shl(value, 1), i64x2.splat(0));
}
// @ts-ignore: decorator
@inline
export function isZero64x2(value: v128): v128 {
  return i64x2.eq(i64x2.shl(value, 1), i64x2.splat(0));
}

/** Whether no lane is a denormal. */
// @ts-ignore: decorator
@inline
export function noDenormal32x4(value: v128): bool {
  // The magnitude minus one is below the largest denormal for denormals only; zero wraps to the top.
  const magnitude = i32x4.shr_u(i32x4.shl(value, 1), 1);
  return !v128.any_true(i32x4.lt_u(i32x4.sub(magnitude, i32x4.splat(1)), i32x4.splat(0x7fffff)));
}
// @ts-ignore: decorator
@inline
export function noDenormal64x2(value: v128): bool {
  const magnitude = i64x2.shr_u(i64x2.shl(value, 1), 1);
  const denormal = v128.and(i64x2.lt_s(magnitude, i64x2.splat(0x10000000000000)), i64x2.ne(magnitude, i64x2.splat(0)));
  return !v128.any_true(denormal);
}

/** Whether no lane is a NaN. */
// @ts-ignore: decorator
@inline
export function noNaN32x4(value: v128): bool {
  return i32x4.all_true(f32x4.eq(value, value));
}
// @ts-ignore: decorator
@inline
export function noNaN64x2(value: v128): bool {
  return i64x2.all_true(f64x2.eq(value, value));
}
