/** FPREM, FPREM1, FSCALE and FXTRACT on f80 (SDM 2A). */
import {
  CLASS_FINITE,
  CLASS_INFINITE,
  CLASS_ZERO,
  uClass,
  uDenormal,
  uExp,
  uSig,
  uSign,
  unpack80,
} from "./arithmetic";
import { OE, PE, UE, ZE, ZERO, sfMasks, sfRaise, sfSetRoundedUp } from "./environment";
import { f80Denormal, f80Invalid, f80RoundFull, f80Set, f80Special, xSe, xSig } from "./f80";
import { integer, integerOverflow, roundInteger } from "./rounding";

/** Low bits of the quotient of the last `f80Remainder`. */
export let quotient: u64 = 0;
/** The last `f80Remainder` is only partial: C2. */
export let partial: bool = false;

/** The last `f80Remainder` ended early: NaN, invalid or stopped. There is no quotient, not even 0. */
export let settled: bool = false;

/** Remainder of a/b, quotient truncated (FPREM) or rounded to nearest even (FPREM1). */
export function f80Remainder(aSig: u64, aSe: u32, bSig: u64, bSe: u32, nearest: bool): void {
  quotient = 0;
  partial = false;
  settled = true;
  if (f80Special(aSig, aSe, bSig, bSe)) return;
  unpack80(bSig, bSe);
  const bc = uClass;
  const be = uExp;
  const bm = uSig;
  let denormal = uDenormal;
  unpack80(aSig, aSe);
  denormal = denormal || uDenormal;
  if (uClass == CLASS_INFINITE || bc == CLASS_ZERO) {
    f80Invalid();
    return;
  }
  if (f80Denormal(denormal)) return;
  settled = false;
  sfSetRoundedUp(false);
  if (uClass == CLASS_ZERO) {
    f80Set(aSig, aSe);
    return;
  }
  let sign = uSign;
  if (bc == CLASS_INFINITE) {
    f80RoundFull(sign, uExp, uSig, 0);
    return;
  }
  const difference = uExp - be;
  let r = uSig;
  const least = nearest ? -1 : 0;
  if (difference < least) {
    f80RoundFull(sign, uExp, uSig, 0);
    return;
  }
  let steps = difference;
  let exp = be;
  if (difference >= 64) {
    partial = true;
    const n = (difference & 31) | 32;
    steps = n;
    exp = uExp - n;
  }
  let q: u64 = 0;
  if (difference == -1) {
    // |b|/4 ≤ |a| < |b|: the quotient is 0 or, above one half, 1.
    if (r > bm) {
      // a > b/2: a − b in units of 2^(be−64).
      r = bm - (r - bm);
      sign ^= 1;
      quotient = 1;
      // 2b − a' with a' = r at half the weight.
      setRemainder(sign, be - 1, r);
    } else f80RoundFull(sign, uExp, uSig, 0);
    return;
  }
  // r/bm digit by digit: r < 2·bm throughout.
  let carry = false;
  for (let i = steps; ; i--) {
    q <<= 1;
    if (carry || r >= bm) {
      r -= bm;
      q |= 1;
    }
    if (i == 0) break;
    carry = r >> 63 != 0;
    r <<= 1;
  }
  if (nearest && !partial) {
    const rest = bm - r;
    if (r > rest || (r == rest && (q & 1) != 0)) {
      r = rest;
      sign ^= 1;
      q++;
    }
  }
  quotient = q;
  setRemainder(sign, exp, r);
}

function setRemainder(sign: u32, exp: i32, r: u64): void {
  if (r == 0) {
    f80Set(0, sign << 15);
    return;
  }
  const shift = clz(r);
  f80RoundFull(sign, exp - i32(shift), r << shift, 0);
}

/** a·2^trunc(b). */
export function f80Scale(aSig: u64, aSe: u32, bSig: u64, bSe: u32): void {
  if (f80Special(aSig, aSe, bSig, bSe)) return;
  unpack80(bSig, bSe);
  const bc = uClass;
  const bs = uSign;
  const be = uExp;
  const bm = uSig;
  let denormal = uDenormal;
  unpack80(aSig, aSe);
  denormal = denormal || uDenormal;
  const sign = aSe & 0x8000;
  sfSetRoundedUp(false);
  if (bc == CLASS_INFINITE) {
    if (bs == 0 ? uClass == CLASS_ZERO : uClass == CLASS_INFINITE) {
      f80Invalid();
      return;
    }
    if (f80Denormal(denormal)) return;
    if (bs == 0) f80Set(1 << 63, sign | 0x7fff);
    else f80Set(0, sign);
    return;
  }
  if (f80Denormal(denormal)) return;
  if (uClass != CLASS_FINITE) {
    f80Set(aSig, aSe);
    return;
  }
  let n: i32 = 0;
  if (bc == CLASS_FINITE) {
    roundInteger(0, be, bm, ZERO);
    sfSetRoundedUp(false);
    n = integerOverflow || integer > 0x10000 ? 0x10000 : i32(integer);
    if (bs != 0) n = -n;
  }
  const e = uExp + n;
  // Beyond what the wrapped exponent of an unmasked exception can tell: 0 or infinity in spite of it.
  if ((sfMasks & UE) == 0 && e < -16382 - 24576) {
    sfRaise(UE | PE);
    f80Set(0, sign);
  } else if ((sfMasks & OE) == 0 && e > 16383 + 24576) {
    sfRaise(OE | PE);
    sfSetRoundedUp(true);
    f80Set(1 << 63, sign | 0x7fff);
  } else f80RoundFull(uSign, e, uSig, 0);
}

export let extractedSig: u64 = 0;
export let extractedSe: u32 = 0;

/** Exponent of a as a number in `xSig`, `xSe`; significand in `extractedSig`, `extractedSe`. */
export function f80Extract(sig: u64, se: u32): void {
  if (f80Special(sig, se, sig, se)) {
    extractedSig = xSig;
    extractedSe = xSe;
    return;
  }
  sfSetRoundedUp(false);
  unpack80(sig, se);
  if (uClass == CLASS_INFINITE) {
    extractedSig = sig;
    extractedSe = se;
    f80Set(1 << 63, 0x7fff);
    return;
  }
  if (uClass == CLASS_ZERO) {
    sfRaise(ZE);
    extractedSig = 0;
    extractedSe = se;
    f80Set(1 << 63, 0xffff);
    return;
  }
  if (f80Denormal(uDenormal)) return;
  extractedSig = uSig;
  extractedSe = (se & 0x8000) | 16383;
  const e = uExp;
  if (e == 0) f80Set(0, 0);
  else {
    const m: u64 = e < 0 ? u64(-e) : u64(e);
    const shift = clz(m);
    f80Set(m << shift, (e < 0 ? 0x8000 : 0) | (16383 + 63 - u32(shift)));
  }
}
