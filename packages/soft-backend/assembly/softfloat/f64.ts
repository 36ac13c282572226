/** IEEE 754 binary64 on bit patterns, as SSE2 computes it. Environment and flags: `environment.ts`. */
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

export function f64Add(a: u64, b: u64): u64 {
  return binary<u64>(ADD, a, b);
}

export function f64Sub(a: u64, b: u64): u64 {
  return binary<u64>(SUB, a, b);
}

export function f64Mul(a: u64, b: u64): u64 {
  return binary<u64>(MUL, a, b);
}

export function f64Div(a: u64, b: u64): u64 {
  return binary<u64>(DIV, a, b);
}

export function f64Sqrt(a: u64): u64 {
  return sqrt<u64>(a);
}

/** −1, 0, 1, or 2 if unordered. `signalling`: quiet NaNs raise IE as well (COMISD, CMPLTSD…). */
export function f64Compare(a: u64, b: u64, signalling: bool): i32 {
  return compare<u64>(a, b, signalling);
}

/** ROUNDSD. `mode` as RC. */
export function f64RoundToInt(a: u64, mode: u32, suppressPrecision: bool): u64 {
  return roundIntegral<u64>(a, mode, suppressPrecision);
}

export function f64ToI32(a: u64, truncate: bool): i32 {
  return <i32>toSigned<u64>(a, 32, truncate);
}

export function f64ToI64(a: u64, truncate: bool): i64 {
  return toSigned<u64>(a, 64, truncate);
}

export function i32ToF64(value: i32): u64 {
  return fromSigned<u64>(value);
}

export function i64ToF64(value: i64): u64 {
  return fromSigned<u64>(value);
}

export function f64ToF32(a: u64): u32 {
  const sign = u32(a >> 63) << 31;
  if (isNaN<u64>(a)) {
    if (isSignalling<u64>(a)) sfRaise(IE);
    return sign | 0x7fc00000 | (u32(a >> 29) & 0x7fffff);
  }
  unpack<u64>(a);
  if (uDenormal) {
    sfRaise(DE);
    if (sfStopped()) return 0;
  }
  if (uClass == CLASS_ZERO) return sign;
  if (uClass != CLASS_FINITE) return sign | 0x7f800000;
  return roundTo<u32>(uSign, uExp, uSig, 0);
}
