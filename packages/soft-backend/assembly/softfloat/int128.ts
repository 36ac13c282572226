/** 128-bit integer steps on pairs of u64. Results that need two words leave the second one in a global. */

/** Low word of the last two-word result. */
export let low: u64 = 0;
/** Remainder of the last division. */
export let remainder: u64 = 0;

/** a·b: returns the high word, leaves the low one in `low`. */
export function mul64(a: u64, b: u64): u64 {
  const al = a & 0xffffffff;
  const ah = a >> 32;
  const bl = b & 0xffffffff;
  const bh = b >> 32;
  const ll = al * bl;
  const lh = al * bh;
  const hl = ah * bl;
  const mid = (ll >> 32) + (lh & 0xffffffff) + (hl & 0xffffffff);
  low = (mid << 32) | (ll & 0xffffffff);
  return ah * bh + (lh >> 32) + (hl >> 32) + (mid >> 32);
}

/**
 * (hi·2^64 + lo) / d with hi < d and d ≥ 2^63: returns the quotient, leaves `remainder`.
 * Two digits of 32 bits with quotient estimates (Knuth, TAOCP 2 §4.3.1, algorithm D).
 */
export function div128(hi: u64, lo: u64, d: u64): u64 {
  const dh = d >> 32;
  const dl = d & 0xffffffff;
  let q1 = hi / dh;
  let r = hi - q1 * dh;
  while (q1 >> 32 != 0 || q1 * dl > ((r << 32) | (lo >> 32))) {
    q1--;
    r += dh;
    if (r >> 32 != 0) break;
  }
  const mid = ((hi << 32) | (lo >> 32)) - q1 * d;
  let q0 = mid / dh;
  r = mid - q0 * dh;
  while (q0 >> 32 != 0 || q0 * dl > ((r << 32) | (lo & 0xffffffff))) {
    q0--;
    r += dh;
    if (r >> 32 != 0) break;
  }
  remainder = ((mid << 32) | (lo & 0xffffffff)) - q0 * d;
  return (q1 << 32) + q0;
}

/** Shifts right by n ≥ 0; bits that fall out stick in the lowest bit. High word returned, `low` set. */
export function shiftRightJam(hi: u64, lo: u64, n: u32): u64 {
  if (n == 0) {
    low = lo;
    return hi;
  }
  if (n < 64) {
    const lost = lo << (64 - n);
    low = (hi << (64 - n)) | (lo >> n) | u64(lost != 0);
    return hi >> n;
  }
  if (n == 64) {
    low = hi | u64(lo != 0);
    return 0;
  }
  if (n < 128) {
    const lost = (hi << (128 - n)) | lo;
    low = (hi >> (n - 64)) | u64(lost != 0);
    return 0;
  }
  low = u64((hi | lo) != 0);
  return 0;
}
