/** Steps on 128-bit fractions (hi:lo / 2^128) for the transcendental functions. The low word of a result is `fLow`. */
import { low, mul64 } from "./int128";

export let fLow: u64 = 0;

/** Upper 128 bits of a·b, at most 2^-127 too small. */
export function fMul(ah: u64, al: u64, bh: u64, bl: u64): u64 {
  const hh = mul64(ah, bh);
  const hhl = low;
  const hl = mul64(ah, bl);
  const hll = low;
  const lh = mul64(al, bh);
  const carry = u64(low + hll < hll);
  const middle = hl + lh;
  let hi = hh + u64(middle < hl);
  const m = middle + carry;
  hi += u64(m < middle);
  fLow = hhl + m;
  return hi + u64(fLow < hhl);
}

/** a / n for n < 2^32. */
export function fDivSmall(hi: u64, lo: u64, n: u64): u64 {
  const q = hi / n;
  const upper = ((hi - q * n) << 32) | (lo >> 32);
  const qu = upper / n;
  const lower = ((upper - qu * n) << 32) | (lo & 0xffffffff);
  fLow = (qu << 32) + lower / n;
  return q;
}

/** floor(a / b · 2^128) for a < b. */
export function fDiv(ah: u64, al: u64, bh: u64, bl: u64): u64 {
  let qh: u64 = 0;
  let ql: u64 = 0;
  for (let i = 0; i < 128; i++) {
    const carry = ah >> 63 != 0;
    ah = (ah << 1) | (al >> 63);
    al <<= 1;
    qh = (qh << 1) | (ql >> 63);
    ql <<= 1;
    if (carry || ah > bh || (ah == bh && al >= bl)) {
      ah = ah - bh - u64(al < bl);
      al -= bl;
      ql |= 1;
    }
  }
  fLow = ql;
  return qh;
}

/** a · 2^-n, truncated. */
export function fShift(hi: u64, lo: u64, n: u32): u64 {
  if (n == 0) {
    fLow = lo;
    return hi;
  }
  if (n < 64) {
    fLow = (hi << (64 - n)) | (lo >> n);
    return hi >> n;
  }
  fLow = n < 128 ? hi >> (n - 64) : 0;
  return 0;
}

/** Position of the leading one, counted from the top; 128 for zero. */
export function fLeading(hi: u64, lo: u64): u32 {
  return hi != 0 ? u32(clz(hi)) : 64 + u32(clz(lo));
}

/** a · 2^n, n ≤ `fLeading`. */
export function fShiftLeft(hi: u64, lo: u64, n: u32): u64 {
  if (n == 0) {
    fLow = lo;
    return hi;
  }
  if (n < 64) {
    fLow = lo << n;
    return (hi << n) | (lo >> (64 - n));
  }
  fLow = 0;
  return n < 128 ? lo << (n - 64) : 0;
}
