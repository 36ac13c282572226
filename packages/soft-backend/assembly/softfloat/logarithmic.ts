/** F2XM1, FYL2X and FYL2XP1 on unpacked numbers, to about 110 bits before rounding. */
import { fLow, fMul, fShift } from "./fixed128";
import { qDiv, qExp, qHi, qIncrease, qLo, qMul, qNormalise, qReduce, qSet } from "./real128";
import { ATAN, EXPM1, series, seriesLow } from "./series";

/** ln 2 as a 128-bit fraction. */
const LN2_HI: u64 = 0xb17217f7d1cf79ab;
const LN2_LO: u64 = 0xc9e3b39803f2f6af;
/** log2 e in units of 2^-127. */
const LOG2E_HI: u64 = 0xb8aa3b295c17f0bb;
const LOG2E_LO: u64 = 0xbe87fed0691d3e88;
/** √2 in units of 2^-63. */
const SQRT2: u64 = 0xb504f333f9de6484;

/** Sign of the last logarithm: the magnitude is in `qHi`, `qLo`, `qExp`. */
export let negative: bool = false;
/** The last logarithm is 0. */
export let isZero: bool = false;
/** The last logarithm is exact. */
export let isExact: bool = false;

/** |2^x − 1| for x = ±sig·2^(exp−63), |x| < 1. */
export function powerMinusOne(xNegative: bool, sig: u64, exp: i32): void {
  qMul(sig, 0, exp, LN2_HI, LN2_LO, -1);
  const z = fShift(qHi, qLo, u32(min(-(qExp + 1), 128)));
  const d = series(EXPM1, xNegative, z, fLow);
  if (xNegative) qReduce(d, seriesLow);
  else qIncrease(d, seriesLow);
}

/** log2 of (1+s)/(1−s) for s = the real at hand, at most 0.18. */
function logOfRatio(): void {
  const sh = qHi;
  const sl = qLo;
  const se = qExp;
  const h = fMul(sh, sl, sh, sl);
  const z = fShift(h, fLow, u32(min(-2 * (se + 1), 128)));
  const d = series(ATAN, false, z, fLow);
  qIncrease(d, seriesLow);
  qMul(qHi, qLo, qExp, LOG2E_HI, LOG2E_LO, 1);
}

/** log2 x for x = sig·2^(exp−63). */
export function logarithm(sig: u64, exp: i32): void {
  isZero = false;
  isExact = false;
  const one: u64 = 1 << 63;
  if (sig == one) {
    isExact = true;
    isZero = exp == 0;
    negative = exp < 0;
    if (!isZero) qNormalise(0, u64(negative ? -exp : exp), 127);
    return;
  }
  // m in (√2/2, √2): s = (m − 1) / (m + 1).
  const upper = sig > SQRT2;
  const e = exp + i32(upper);
  if (upper) {
    // (sig/2 − 1) / (sig/2 + 1); sig + 2 in units of 2^-62.
    qNormalise(0 - sig, 0, 0);
    qDiv(qHi, qLo, qExp, (sig >> 1) + one, sig << 63, 1);
  } else {
    qNormalise(sig - one, 0, 0);
    qDiv(qHi, qLo, qExp, (sig >> 1) + (1 << 62), sig << 63, 1);
  }
  // Top bit of the divisors: 3…4 and 2…2.42 in units that leave it set.
  logOfRatio();
  negative = upper;
  if (e == 0) return;
  // e + log2 m in units of 2^-112.
  const eNegative = e < 0;
  const h = fShift(qHi, qLo, u32(min(15 - qExp, 128)));
  const l = fLow;
  const whole = u64(eNegative ? -e : e) << 48;
  if (eNegative == negative) qNormalise(whole + h, l, 15);
  else qNormalise(whole - h - u64(l != 0), 0 - l, 15);
  negative = eNegative;
}

/** log2(1 + x) for x = ±sig·2^(exp−63), |x| < 1 − √2/2. */
export function logarithmOfSum(xNegative: bool, sig: u64, exp: i32): void {
  isZero = false;
  isExact = false;
  negative = xNegative;
  // 2 ± x in units of 2^-126.
  const h = fShift(sig, 0, u32(min(1 - exp, 128)));
  const l = fLow;
  const two: u64 = 1 << 63;
  if (xNegative) {
    const dh = two - h - u64(l != 0);
    const dl = 0 - l;
    qNormalise(dh, dl, 1);
    qDiv(sig, 0, exp, qHi, qLo, qExp);
  } else qDiv(sig, 0, exp, two + h, l, 1);
  logOfRatio();
}
