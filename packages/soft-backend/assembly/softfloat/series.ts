/** Power series of the transcendental functions, in 128-bit fractions. */
import { fDivSmall, fLow, fMul } from "./fixed128";

/** Σ z^k/(2k+1)!: sin r / r, with z = r². */
export const SIN: u32 = 0;
/** Σ z^k/(2k)!: cos r. */
export const COS: u32 = 1;
/** Σ z^k/(k+1)!: (e^z − 1) / z. */
export const EXPM1: u32 = 2;
/** Σ z^k/(2k+1): atan t / t and atanh t / t, with z = t². */
export const ATAN: u32 = 3;

/** Low word of the last `series`. */
export let seriesLow: u64 = 0;

/** Distance from 1 of the series at z = zh:zl < 1: Σ over k ≥ 1, signs alternating or all alike. High word returned. */
export function series(kind: u32, alternating: bool, zh: u64, zl: u64): u64 {
  let ph = zh;
  let pl = zl;
  let sh: u64 = 0;
  let sl: u64 = 0;
  let subtract = false;
  for (let k: u64 = 1; ; k++) {
    if (k > 1) {
      ph = fMul(ph, pl, zh, zl);
      pl = fLow;
    }
    let th: u64;
    let tl: u64;
    if (kind == ATAN) {
      th = fDivSmall(ph, pl, 2 * k + 1);
      tl = fLow;
    } else {
      const divisor = kind == SIN ? 2 * k * (2 * k + 1) : kind == COS ? (2 * k - 1) * 2 * k : k + 1;
      ph = fDivSmall(ph, pl, divisor);
      pl = fLow;
      th = ph;
      tl = pl;
    }
    if ((th | tl) == 0) break;
    if (subtract) {
      sh = sh - th - u64(sl < tl);
      sl -= tl;
    } else {
      sl += tl;
      sh = sh + th + u64(sl < tl);
    }
    subtract = alternating && !subtract;
  }
  seriesLow = sl;
  return sh;
}
