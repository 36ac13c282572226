/** Positive reals with a 128-bit significand: hi:lo·2^(exp−127), top bit of hi set. Results in `qHi`, `qLo`, `qExp`. */
import { fDiv, fLeading, fLow, fMul, fShiftLeft } from "./fixed128";

export let qHi: u64 = 0;
export let qLo: u64 = 0;
export let qExp: i32 = 0;

export function qSet(hi: u64, lo: u64, exp: i32): void {
  qHi = hi;
  qLo = lo;
  qExp = exp;
}

/** Sets the result to hi:lo·2^(exp−127), not zero, after shifting the top bit into place. */
export function qNormalise(hi: u64, lo: u64, exp: i32): void {
  const shift = fLeading(hi, lo);
  qHi = fShiftLeft(hi, lo, shift);
  qLo = fLow;
  qExp = exp - i32(shift);
}

/** a·b. */
export function qMul(ah: u64, al: u64, ae: i32, bh: u64, bl: u64, be: i32): void {
  const h = fMul(ah, al, bh, bl);
  qNormalise(h, fLow, ae + be + 1);
}

/** a / b. */
export function qDiv(ah: u64, al: u64, ae: i32, bh: u64, bl: u64, be: i32): void {
  const wide = ah > bh || (ah == bh && al >= bl);
  const h = wide ? fDiv(ah >> 1, (ah << 63) | (al >> 1), bh, bl) : fDiv(ah, al, bh, bl);
  qSet(h, fLow, ae - be - i32(!wide));
}

/** The result times 1 − hi:lo / 2^128; an invisibly small hi:lo still makes it smaller. */
export function qReduce(hi: u64, lo: u64): void {
  if ((hi | lo) != 0) {
    qMul(qHi, qLo, qExp, 0 - hi - u64(lo != 0), 0 - lo, -1);
    return;
  }
  // Only called with normal significands: the decrement may clear the top bit of a power of two.
  const h = qHi - u64(qLo == 0);
  qNormalise(h, qLo - 1, qExp);
}

/** The result times 1 + hi:lo / 2^128; an invisibly small hi:lo still makes it larger. */
export function qIncrease(hi: u64, lo: u64): void {
  if ((hi | lo) != 0) qMul(qHi, qLo, qExp, (hi >> 1) | (1 << 63), (hi << 63) | (lo >> 1), 0);
  else qLo |= 1;
}
