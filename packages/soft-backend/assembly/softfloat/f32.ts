/** IEEE 754 binary32 on bit patterns, as SSE computes it. Environment and flags: `environment.ts`. */
import {
  ADD,
  DIV,
  MUL,
  SUB,
  binary,
  compare,
  fromSigned,
  isNaN,
  isSignalling,
  roundIntegral,
  roundTo,
  sqrt,
  toSigned,
  unpack,
} from "./binary";
import { CLASS_FINITE, CLASS_ZERO, uClass, uDenormal, uExp, uSig, uSign } from "./arithmetic";
import { DE, IE, sfRaise, sfStopped } from "./environment";

export function f32Add(a: u32, b: u32): u32 {
  return binary<u32>(ADD, a, b);
}

export function f32Sub(a: u32, b: u32): u32 {
  return binary<u32>(SUB, a, b);
}

export function f32Mul(a: u32, b: u32): u32 {
  return binary<u32>(MUL, a, b);
}

export function f32Div(a: u32, b: u32): u32 {
  return binary<u32>(DIV, a, b);
}

export function f32Sqrt(a: u32): u32 {
  return sqrt<u32>(a);
}

/** −1, 0, 1, or 2 if unordered. `signalling`: quiet NaNs raise IE as well (COMISS, CMPLTSS…). */
export function f32Compare(a: u32, b: u32, signalling: bool): i32 {
  return compare<u32>(a, b, signalling);
}

/** ROUNDSS. `mode` as RC. */
export function f32RoundToInt(a: u32, mode: u32, suppressPrecision: bool): u32 {
  return roundIntegral<u32>(a, mode, suppressPrecision);
}

export function f32ToI32(a: u32, truncate: bool): i32 {
  return <i32>toSigned<u32>(a, 32, truncate);
}

export function f32ToI64(a: u32, truncate: bool): i64 {
  return toSigned<u32>(a, 64, truncate);
}

export function i32ToF32(value: i32): u32 {
  return fromSigned<u32>(value);
}

export function i64ToF32(value: i64): u32 {
  return fromSigned<u32>(value);
}

export function f32ToF64(a: u32): u64 {
  const sign = u64(a >> 31) << 63;
  if (isNaN<u32>(a)) {
    if (isSignalling<u32>(a)) sfRaise(IE);
    return sign | 0x7ff8000000000000 | (u64(a & 0x7fffff) << 29);
  }
  unpack<u32>(a);
  if (uDenormal) {
    sfRaise(DE);
    if (sfStopped()) return 0;
  }
  if (uClass == CLASS_ZERO) return sign;
  if (uClass != CLASS_FINITE) return sign | 0x7ff0000000000000;
  return roundTo<u64>(uSign, uExp, uSig, 0);
}
