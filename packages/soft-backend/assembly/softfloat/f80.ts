/**
 * The x87 double extended format on (significand u64, sign and exponent u16) pairs, with x87's NaN rules (SDM 1
 * table 4-7) and its unsupported encodings (§8.2.2). Results are left in `xSig` and `xSe`.
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
  unpack80,
} from "./arithmetic";
import { ADD, DIV, EQUAL, GREATER, LESS, MUL, SUB, UNORDERED, isNaN, roundTo } from "./binary";
import {
  DE,
  IE,
  PE,
  ZE,
  ZERO,
  sfPrecision,
  sfRaise,
  sfRounding,
  sfSetPrecision,
  sfSetRoundedUp,
  sfStopped,
} from "./environment";
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

export let xSig: u64 = 0;
export let xSe: u32 = 0;
/** The number widened last was a denormal of its narrower format. */
export let xDenormal: bool = false;

const J: u64 = 1 << 63;
const QUIET: u64 = 1 << 62;
/** Exponent adjustment of unmasked overflow and underflow (SDM 1 §8.5.4, §8.5.5). */
const WRAP: i32 = 24576;

export function f80Set(sig: u64, se: u32): void {
  xSig = sig;
  xSe = se;
}

export function f80SetDefaultNaN(): void {
  f80Set(J | QUIET, 0xffff);
}

export function f80IsUnsupported(sig: u64, se: u32): bool {
  return (se & 0x7fff) != 0 && sig >> 63 == 0;
}

export function f80IsNaN(sig: u64, se: u32): bool {
  return (se & 0x7fff) == 0x7fff && sig << 1 != 0 && sig >> 63 != 0;
}

export function f80IsSignalling(sig: u64, se: u32): bool {
  return f80IsNaN(sig, se) && (sig & QUIET) == 0;
}

export function f80IsInfinite(sig: u64, se: u32): bool {
  return (se & 0x7fff) == 0x7fff && sig == J;
}

export function f80IsZero(sig: u64, se: u32): bool {
  return (se & 0x7fff) == 0 && sig == 0;
}

export function f80IsDenormal(sig: u64, se: u32): bool {
  return (se & 0x7fff) == 0 && sig != 0;
}

/** Rounds ±hi:lo·2^(exp−127) to the precision in force. */
export function f80Round(sign: u32, exp: i32, hi: u64, lo: u64): void {
  const precision = sfPrecision;
  round(sign, exp, hi, lo, precision, -16382, 16383, false, WRAP);
  const s = sign << 15;
  if (exponent == HUGE) {
    f80Set(J, s | 0x7fff);
    return;
  }
  const sig = kept << (64 - precision);
  f80Set(sig, exponent == TINY ? s | u32(sig >> 63) : s | u32(exponent + 16383));
}

/** Rounds to all 64 bits whatever the precision control says. */
export function f80RoundFull(sign: u32, exp: i32, hi: u64, lo: u64): void {
  const precision = sfPrecision;
  sfSetPrecision(64);
  f80Round(sign, exp, hi, lo);
  sfSetPrecision(precision);
}

export function f80Invalid(): void {
  sfRaise(IE);
  sfSetRoundedUp(false);
  f80SetDefaultNaN();
}

function finish(): void {
  if (rClass == CLASS_FINITE) {
    f80Round(rSign, rExp, rHi, rLo);
    return;
  }
  sfSetRoundedUp(false);
  const sign = rSign << 15;
  if (rClass == CLASS_ZERO) f80Set(0, sign);
  else if (rClass == CLASS_INVALID) f80Invalid();
  else {
    if (rClass == CLASS_DIVIDED_BY_ZERO) sfRaise(ZE);
    f80Set(J, sign | 0x7fff);
  }
}

/** Deals with unsupported encodings and NaNs; true if that settled the result. */
export function f80Special(aSig: u64, aSe: u32, bSig: u64, bSe: u32): bool {
  if (f80IsUnsupported(aSig, aSe) || f80IsUnsupported(bSig, bSe)) {
    f80Invalid();
    return true;
  }
  const aNaN = f80IsNaN(aSig, aSe);
  const bNaN = f80IsNaN(bSig, bSe);
  if (!aNaN && !bNaN) return false;
  sfSetRoundedUp(false);
  const aSignalling = aNaN && (aSig & QUIET) == 0;
  const bSignalling = bNaN && (bSig & QUIET) == 0;
  if (aSignalling || bSignalling) sfRaise(IE);
  const aQuiet = aSig | QUIET;
  const bQuiet = bSig | QUIET;
  let first: bool;
  if (!bNaN) first = true;
  else if (!aNaN) first = false;
  else if (aSignalling != bSignalling) first = bSignalling;
  else if (aQuiet != bQuiet) first = aQuiet > bQuiet;
  else first = (aSe & 0x8000) == 0;
  if (first) f80Set(aQuiet, aSe);
  else f80Set(bQuiet, bSe);
  return true;
}

/** Raises DE if asked to; true if that stops the operation. */
export function f80Denormal(denormal: bool): bool {
  if (!denormal) return false;
  sfRaise(DE);
  return sfStopped();
}

/** ADD, SUB, MUL or DIV. `denormal`: an operand was a denormal before it was widened. */
export function f80Binary(operation: u32, aSig: u64, aSe: u32, bSig: u64, bSe: u32, denormal: bool): void {
  if (f80Special(aSig, aSe, bSig, bSe)) return;
  unpack80(aSig, aSe);
  const ac = uClass;
  const as = uSign;
  const ae = uExp;
  const am = uSig;
  denormal = denormal || uDenormal;
  unpack80(bSig, bSe);
  denormal = denormal || uDenormal;
  if (operation == DIV) {
    divExact(ac, as, ae, am);
    if (rClass == CLASS_DIVIDED_BY_ZERO) {
      finish();
      return;
    }
  }
  if (f80Denormal(denormal)) return;
  if (operation == ADD) addExact(ac, as, ae, am, uSign);
  else if (operation == SUB) addExact(ac, as, ae, am, uSign ^ 1);
  else if (operation == MUL) mulExact(ac, as, ae, am);
  finish();
}

export function f80Sqrt(sig: u64, se: u32): void {
  if (f80Special(sig, se, sig, se)) return;
  unpack80(sig, se);
  sqrtExact();
  if (rClass != CLASS_INVALID && f80Denormal(uDenormal)) return;
  finish();
}

/** LESS, EQUAL, GREATER or UNORDERED; a quiet NaN is invalid too if `signalling`. */
export function f80Compare(aSig: u64, aSe: u32, bSig: u64, bSe: u32, denormal: bool, signalling: bool): i32 {
  if (f80IsUnsupported(aSig, aSe) || f80IsUnsupported(bSig, bSe)) {
    sfRaise(IE);
    return UNORDERED;
  }
  if (f80IsNaN(aSig, aSe) || f80IsNaN(bSig, bSe)) {
    if (signalling || f80IsSignalling(aSig, aSe) || f80IsSignalling(bSig, bSe)) sfRaise(IE);
    return UNORDERED;
  }
  if (denormal || f80IsDenormal(aSig, aSe) || f80IsDenormal(bSig, bSe)) sfRaise(DE);
  const az = f80IsZero(aSig, aSe);
  const bz = f80IsZero(bSig, bSe);
  if (az && bz) return EQUAL;
  const an = (aSe & 0x8000) != 0;
  const bn = (bSe & 0x8000) != 0;
  if (az) return bn ? GREATER : LESS;
  if (bz || an != bn) return an ? LESS : GREATER;
  // A pseudo-denormal has the value of exponent 1.
  const ae = (aSe & 0x7fff) | u32((aSe & 0x7fff) == 0 && aSig >> 63 != 0);
  const be = (bSe & 0x7fff) | u32((bSe & 0x7fff) == 0 && bSig >> 63 != 0);
  if (ae == be && aSig == bSig) return EQUAL;
  const smaller = ae < be || (ae == be && aSig < bSig);
  return smaller != an ? LESS : GREATER;
}

/** FRNDINT. */
export function f80RoundToInt(sig: u64, se: u32): void {
  if (f80Special(sig, se, sig, se)) return;
  unpack80(sig, se);
  if (f80Denormal(uDenormal)) return;
  sfSetRoundedUp(false);
  if (uClass != CLASS_FINITE || uExp >= 63) {
    f80Set(sig, se);
    return;
  }
  roundInteger(uSign, uExp, uSig, sfRounding);
  if (integerInexact) sfRaise(PE);
  setInteger(se & 0x8000, integer);
}

function setInteger(sign: u32, magnitude: u64): void {
  if (magnitude == 0) {
    f80Set(0, sign);
    return;
  }
  const shift = clz(magnitude);
  f80Set(magnitude << shift, sign | (16383 + 63 - u32(shift)));
}

/** FILD: exact. */
export function i64ToF80(value: i64): void {
  if (value < 0) setInteger(0x8000, 0 - <u64>value);
  else setInteger(0, <u64>value);
}

/** Magnitude as f80, for packed decimals. */
export function u64ToF80(negative: bool, magnitude: u64): void {
  setInteger(negative ? 0x8000 : 0, magnitude);
}

/**
 * To an integer magnitude below `limit` (`limit` itself if negative and `twosComplement`). False: IE was raised.
 * The magnitude is in `integer` of rounding.ts.
 */
export function f80ToInteger(sig: u64, se: u32, limit: u64, twosComplement: bool, truncate: bool): bool {
  if ((se & 0x7fff) != 0x7fff && !f80IsUnsupported(sig, se)) {
    unpack80(sig, se);
    const sign = uSign;
    if (uClass == CLASS_ZERO) roundInteger(0, -1, 0, ZERO);
    else roundInteger(sign, uExp, uSig, truncate ? ZERO : sfRounding);
    if (!integerOverflow && (integer < limit || (twosComplement && sign != 0 && integer == limit))) {
      if (integerInexact) sfRaise(PE);
      return true;
    }
  }
  sfRaise(IE);
  sfSetRoundedUp(false);
  return false;
}

/** Signed integer of `bits`; out of range, NaN: IE and the most negative one. */
export function f80ToSigned(sig: u64, se: u32, bits: u32, truncate: bool): i64 {
  const limit: u64 = (1 as u64) << (bits - 1);
  if (!f80ToInteger(sig, se, limit, true, truncate)) return 0 - <i64>limit;
  return (se & 0x8000) != 0 ? 0 - <i64>integer : <i64>integer;
}

/** Widens without exceptions; a signalling NaN stays signalling. Sets `xDenormal`. */
export function f32Widen(a: u32): void {
  xDenormal = false;
  const sign = (a >> 16) & 0x8000;
  if (isNaN<u32>(a)) {
    f80Set(J | (u64(a & 0x7fffff) << 40), sign | 0x7fff);
    return;
  }
  unpack32(a);
  setWidened(sign);
}

/** Widens without exceptions; a signalling NaN stays signalling. Sets `xDenormal`. */
export function f64Widen(a: u64): void {
  xDenormal = false;
  const sign = u32(a >> 48) & 0x8000;
  if (isNaN<u64>(a)) {
    f80Set(J | (a << 11), sign | 0x7fff);
    return;
  }
  unpack64(a);
  setWidened(sign);
}

function setWidened(sign: u32): void {
  xDenormal = uDenormal;
  if (uClass == CLASS_ZERO) f80Set(0, sign);
  else if (uClass == CLASS_INFINITE) f80Set(J, sign | 0x7fff);
  else f80Set(uSig, sign | u32(uExp + 16383));
}

/** Rounds to f32; the pattern is meaningless after an unmasked exception other than PE. */
export function f80ToF32(sig: u64, se: u32): u32 {
  const sign = (se & 0x8000) << 16;
  sfSetRoundedUp(false);
  if (f80IsUnsupported(sig, se)) {
    sfRaise(IE);
    return 0xffc00000;
  }
  if (f80IsNaN(sig, se)) {
    if ((sig & QUIET) == 0) sfRaise(IE);
    return sign | 0x7fc00000 | (u32(sig >> 40) & 0x7fffff);
  }
  unpack80(sig, se);
  if (uClass == CLASS_ZERO) return sign;
  if (uClass == CLASS_INFINITE) return sign | 0x7f800000;
  return roundTo<u32>(uSign, uExp, uSig, 0);
}

/** Rounds to f64; the pattern is meaningless after an unmasked exception other than PE. */
export function f80ToF64(sig: u64, se: u32): u64 {
  const sign = u64(se & 0x8000) << 48;
  sfSetRoundedUp(false);
  if (f80IsUnsupported(sig, se)) {
    sfRaise(IE);
    return 0xfff8000000000000;
  }
  if (f80IsNaN(sig, se)) {
    if ((sig & QUIET) == 0) sfRaise(IE);
    return sign | 0x7ff8000000000000 | ((sig >> 11) & 0xfffffffffffff);
  }
  unpack80(sig, se);
  if (uClass == CLASS_ZERO) return sign;
  if (uClass == CLASS_INFINITE) return sign | 0x7ff0000000000000;
  return roundTo<u64>(uSign, uExp, uSig, 0);
}
