/**
 * Operations on f32 (T = u32) and f64 (T = u64) bit patterns with the NaN rules of SSE: the first operand if it is a
 * NaN, else the second, made quiet; the default NaN for an invalid operation (SDM 1 §4.8.3.5, table 4-7).
 */
import {
  CLASS_DIVIDED_BY_ZERO,
  CLASS_FINITE,
  CLASS_INFINITE,
  CLASS_INVALID,
  CLASS_ZERO,
  addExact,
  divExact,
  mulExact,
  rClass,
  rExp,
  rHi,
  rLo,
  rSign,
  sqrtExact,
  uClass,
  uDenormal,
  uExp,
  uSig,
  uSign,
  unpack32,
  unpack64,
} from "./arithmetic";
import { DE, IE, PE, ZE, ZERO, sfRaise, sfRounding, sfSetRoundedUp, sfStopped } from "./environment";
import {
  HUGE,
  TINY,
  exponent,
  integer,
  integerInexact,
  integerOverflow,
  kept,
  round,
  roundInteger,
} from "./rounding";

export const ADD: u32 = 0;
export const SUB: u32 = 1;
export const MUL: u32 = 2;
export const DIV: u32 = 3;

export const LESS: i32 = -1;
export const EQUAL: i32 = 0;
export const GREATER: i32 = 1;
export const UNORDERED: i32 = 2;

/** Width of the significand's stored part. */
function fractionBits<T>(): T {
  return sizeof<T>() == 4 ? <T>23 : <T>52;
}

function magnitude<T>(a: T): T {
  return (a << 1) >> 1;
}

function infinity<T>(): T {
  return sizeof<T>() == 4 ? <T>0x7f800000 : <T>0x7ff0000000000000;
}

function quietBit<T>(): T {
  return (<T>1) << (fractionBits<T>() - 1);
}

function signed<T>(sign: u32): T {
  return (<T>sign) << (<T>sizeof<T>() * 8 - 1);
}

export function isNaN<T>(a: T): bool {
  return magnitude<T>(a) > infinity<T>();
}

export function isSignalling<T>(a: T): bool {
  return isNaN<T>(a) && (a & quietBit<T>()) == 0;
}

export function quiet<T>(a: T): T {
  return a | quietBit<T>();
}

/** The NaN that an invalid operation gives ("real indefinite"). */
export function defaultNaN<T>(): T {
  return signed<T>(1) | infinity<T>() | quietBit<T>();
}

export function unpack<T>(a: T): void {
  if (sizeof<T>() == 4) unpack32(<u32>a);
  else unpack64(<u64>a);
}

/** Rounds ±hi:lo·2^(exp−127) to T. */
export function roundTo<T>(sign: u32, exp: i32, hi: u64, lo: u64): T {
  if (sizeof<T>() == 4) round(sign, exp, hi, lo, 24, -126, 127, true, 0);
  else round(sign, exp, hi, lo, 53, -1022, 1023, true, 0);
  const bias = sizeof<T>() == 4 ? 127 : 1023;
  const bits = fractionBits<T>();
  if (exponent == TINY) return signed<T>(sign) | <T>kept;
  if (exponent == HUGE) return signed<T>(sign) | infinity<T>();
  return signed<T>(sign) | (((<T>(exponent + bias)) << bits) + (<T>kept - ((<T>1) << bits)));
}

/** The arithmetic result, rounded. */
function finish<T>(): T {
  if (rClass == CLASS_FINITE) return roundTo<T>(rSign, rExp, rHi, rLo);
  sfSetRoundedUp(false);
  if (rClass == CLASS_ZERO) return signed<T>(rSign);
  if (rClass == CLASS_INFINITE) return signed<T>(rSign) | infinity<T>();
  if (rClass == CLASS_DIVIDED_BY_ZERO) {
    sfRaise(ZE);
    return signed<T>(rSign) | infinity<T>();
  }
  sfRaise(IE);
  return defaultNaN<T>();
}

function propagate<T>(a: T, b: T): T {
  if (isSignalling<T>(a) || isSignalling<T>(b)) sfRaise(IE);
  return quiet<T>(isNaN<T>(a) ? a : b);
}

export function binary<T>(operation: u32, a: T, b: T): T {
  if (isNaN<T>(a) || isNaN<T>(b)) return propagate<T>(a, b);
  unpack<T>(a);
  const ac = uClass;
  const as = uSign;
  const ae = uExp;
  const am = uSig;
  const ad = uDenormal;
  unpack<T>(b);
  const denormal = ad || uDenormal;
  if (operation == DIV) {
    divExact(ac, as, ae, am);
    if (rClass == CLASS_DIVIDED_BY_ZERO) return finish<T>();
  }
  if (denormal) {
    sfRaise(DE);
    if (sfStopped()) return a;
  }
  if (operation == ADD) addExact(ac, as, ae, am, uSign);
  else if (operation == SUB) addExact(ac, as, ae, am, uSign ^ 1);
  else if (operation == MUL) mulExact(ac, as, ae, am);
  return finish<T>();
}

export function sqrt<T>(a: T): T {
  if (isNaN<T>(a)) return propagate<T>(a, a);
  unpack<T>(a);
  sqrtExact();
  if (uDenormal && rClass != CLASS_INVALID) {
    sfRaise(DE);
    if (sfStopped()) return a;
  }
  return finish<T>();
}

/** LESS, EQUAL, GREATER or UNORDERED; a quiet NaN is invalid too if `signalling`. */
export function compare<T>(a: T, b: T, signalling: bool): i32 {
  if (isNaN<T>(a) || isNaN<T>(b)) {
    if (signalling || isSignalling<T>(a) || isSignalling<T>(b)) sfRaise(IE);
    return UNORDERED;
  }
  unpack<T>(a);
  const aDenormal = uDenormal;
  const az = uClass == CLASS_ZERO;
  unpack<T>(b);
  const bz = uClass == CLASS_ZERO;
  if (aDenormal || uDenormal) sfRaise(DE);
  if (az) a = 0;
  if (bz) b = 0;
  if (a == b) return EQUAL;
  const an = a != magnitude<T>(a);
  const bn = b != magnitude<T>(b);
  if (an != bn) return an ? LESS : GREATER;
  return a < b != an ? LESS : GREATER;
}

/** Rounds to an integer in the same format (ROUNDSS, ROUNDSD: denormals are not reported). */
export function roundIntegral<T>(a: T, mode: u32, suppressPrecision: bool): T {
  if (isNaN<T>(a)) return propagate<T>(a, a);
  unpack<T>(a);
  const sign = uSign;
  if (uClass == CLASS_ZERO) return signed<T>(sign);
  if (uClass == CLASS_INFINITE || uExp >= <i32>fractionBits<T>()) return a;
  roundInteger(sign, uExp, uSig, mode);
  if (integerInexact && !suppressPrecision) sfRaise(PE);
  return fromMagnitude<T>(sign, integer);
}

function fromMagnitude<T>(sign: u32, value: u64): T {
  if (value == 0) return signed<T>(sign);
  const shift = clz(value);
  return roundTo<T>(sign, 63 - i32(shift), value << shift, 0);
}

/** Signed integer to floating point. Zero is +0. */
export function fromSigned<T>(value: i64): T {
  return value < 0 ? fromMagnitude<T>(1, 0 - <u64>value) : fromMagnitude<T>(0, <u64>value);
}

/** To a signed integer of `bits`; out of range or NaN: IE and the most negative one ("integer indefinite"). */
export function toSigned<T>(a: T, bits: u32, truncate: bool): i64 {
  const limit: u64 = (1 as u64) << (bits - 1);
  if (!isNaN<T>(a)) {
    unpack<T>(a);
    if (uClass == CLASS_ZERO) return 0;
    if (uClass == CLASS_FINITE) {
      const sign = uSign;
      roundInteger(sign, uExp, uSig, truncate ? ZERO : sfRounding);
      if (!integerOverflow && (integer < limit || (sign != 0 && integer == limit))) {
        if (integerInexact) sfRaise(PE);
        return sign != 0 ? 0 - <i64>integer : <i64>integer;
      }
    }
  }
  sfRaise(IE);
  return bits == 64 ? i64.MIN_VALUE : <i64>i32.MIN_VALUE;
}
