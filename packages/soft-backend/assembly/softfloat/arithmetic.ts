/** Exact arithmetic on unpacked numbers. Formats differ only in unpacking (below) and in rounding afterwards. */
import { div128, low, mul64, remainder } from "./int128";
import { DOWN, sfDaz, sfRounding } from "./environment";

export const CLASS_ZERO: u32 = 0;
export const CLASS_FINITE: u32 = 1;
export const CLASS_INFINITE: u32 = 2;
/** An operation without a numeric answer (IE, default NaN). */
export const CLASS_INVALID: u32 = 3;
/** A finite number divided by zero (ZE). */
export const CLASS_DIVIDED_BY_ZERO: u32 = 4;

/** The number unpacked last: ±sig·2^(exp−63) with the top bit of sig set if finite. NaNs never get here. */
export let uClass: u32 = 0;
export let uSign: u32 = 0;
export let uExp: i32 = 0;
export let uSig: u64 = 0;
/** The number unpacked last was a denormal (and DAZ is off). */
export let uDenormal: bool = false;

/** The exact result: ±hi:lo·2^(exp−127) with the top bit of hi set if finite. */
export let rClass: u32 = 0;
export let rSign: u32 = 0;
export let rExp: i32 = 0;
export let rHi: u64 = 0;
export let rLo: u64 = 0;

function setUnpacked(cls: u32, sign: u32, exp: i32, sig: u64, denormal: bool): void {
  uClass = cls;
  uSign = sign;
  uExp = exp;
  uSig = sig;
  uDenormal = denormal;
}

function setDenormal(sign: u32, exp: i32, sig: u64): void {
  if (sfDaz) {
    setUnpacked(CLASS_ZERO, sign, 0, 0, false);
    return;
  }
  const shift = clz(sig);
  setUnpacked(CLASS_FINITE, sign, exp - i32(shift), sig << shift, true);
}

export function unpack32(a: u32): void {
  const sign = a >> 31;
  const field = (a >> 23) & 0xff;
  const fraction = u64(a & 0x7fffff) << 40;
  if (field == 0xff) setUnpacked(CLASS_INFINITE, sign, 0, 0, false);
  else if (field != 0) setUnpacked(CLASS_FINITE, sign, i32(field) - 127, fraction | (1 << 63), false);
  else if (fraction == 0) setUnpacked(CLASS_ZERO, sign, 0, 0, false);
  else setDenormal(sign, -126, fraction);
}

export function unpack64(a: u64): void {
  const sign = u32(a >> 63);
  const field = u32(a >> 52) & 0x7ff;
  const fraction = (a & 0xfffffffffffff) << 11;
  if (field == 0x7ff) setUnpacked(CLASS_INFINITE, sign, 0, 0, false);
  else if (field != 0) setUnpacked(CLASS_FINITE, sign, i32(field) - 1023, fraction | (1 << 63), false);
  else if (fraction == 0) setUnpacked(CLASS_ZERO, sign, 0, 0, false);
  else setDenormal(sign, -1022, fraction);
}

/** f80 of a supported encoding. A pseudo-denormal counts as denormal with its value (SDM 1 §8.2.2). */
export function unpack80(sig: u64, se: u32): void {
  const sign = (se >> 15) & 1;
  const field = se & 0x7fff;
  if (field == 0x7fff) setUnpacked(CLASS_INFINITE, sign, 0, 0, false);
  else if (field != 0) setUnpacked(CLASS_FINITE, sign, i32(field) - 16383, sig, false);
  else if (sig == 0) setUnpacked(CLASS_ZERO, sign, 0, 0, false);
  else {
    const shift = clz(sig);
    setUnpacked(CLASS_FINITE, sign, -16382 - i32(shift), sig << shift, true);
  }
}

function setResult(cls: u32, sign: u32, exp: i32, hi: u64, lo: u64): void {
  rClass = cls;
  rSign = sign;
  rExp = exp;
  rHi = hi;
  rLo = lo;
}

/** (class, sign, exponent, significand) + the number unpacked last. */
export function addExact(ac: u32, as: u32, ae: i32, am: u64, bs: u32): void {
  const bc = uClass;
  if (ac == CLASS_INFINITE || bc == CLASS_INFINITE) {
    if (ac == bc && as != bs) setResult(CLASS_INVALID, 0, 0, 0, 0);
    else setResult(CLASS_INFINITE, ac == CLASS_INFINITE ? as : bs, 0, 0, 0);
    return;
  }
  if (bc == CLASS_ZERO) {
    if (ac != CLASS_ZERO) setResult(CLASS_FINITE, as, ae, am, 0);
    else setResult(CLASS_ZERO, as == bs ? as : u32(sfRounding == DOWN), 0, 0, 0);
    return;
  }
  let be = uExp;
  let bm = uSig;
  if (ac == CLASS_ZERO) {
    setResult(CLASS_FINITE, bs, be, bm, 0);
    return;
  }
  if (ae < be || (ae == be && am < bm)) {
    const s = as;
    as = bs;
    bs = s;
    const e = ae;
    ae = be;
    be = e;
    const m = am;
    am = bm;
    bm = m;
  }
  const d = u32(ae - be);
  let bh: u64;
  let bl: u64;
  if (d == 0) {
    bh = bm;
    bl = 0;
  } else if (d < 64) {
    bh = bm >> d;
    bl = bm << (64 - d);
  } else {
    bh = 0;
    bl = d == 64 ? bm : d < 128 ? (bm >> (d - 64)) | u64(bm << (128 - d) != 0) : 1;
  }
  if (as == bs) {
    const hi = am + bh;
    if (hi < am)
      setResult(CLASS_FINITE, as, ae + 1, (hi >> 1) | (1 << 63), (hi << 63) | (bl >> 1) | (bl & 1));
    else setResult(CLASS_FINITE, as, ae, hi, bl);
    return;
  }
  let hi = am - bh - u64(bl != 0);
  let lo = 0 - bl;
  if ((hi | lo) == 0) {
    setResult(CLASS_ZERO, u32(sfRounding == DOWN), 0, 0, 0);
    return;
  }
  if (hi == 0) {
    hi = lo;
    lo = 0;
    ae -= 64;
  }
  const shift = clz(hi);
  if (shift != 0) {
    hi = (hi << shift) | (lo >> (64 - shift));
    lo <<= shift;
  }
  setResult(CLASS_FINITE, as, ae - i32(shift), hi, lo);
}

/** (class, sign, exponent, significand) · the number unpacked last. */
export function mulExact(ac: u32, as: u32, ae: i32, am: u64): void {
  const sign = as ^ uSign;
  if (ac == CLASS_INFINITE || uClass == CLASS_INFINITE) {
    setResult(ac == CLASS_ZERO || uClass == CLASS_ZERO ? CLASS_INVALID : CLASS_INFINITE, sign, 0, 0, 0);
    return;
  }
  if (ac == CLASS_ZERO || uClass == CLASS_ZERO) {
    setResult(CLASS_ZERO, sign, 0, 0, 0);
    return;
  }
  const hi = mul64(am, uSig);
  const lo = low;
  if (hi >> 63 != 0) setResult(CLASS_FINITE, sign, ae + uExp + 1, hi, lo);
  else setResult(CLASS_FINITE, sign, ae + uExp, (hi << 1) | (lo >> 63), lo << 1);
}

/** (class, sign, exponent, significand) / the number unpacked last. */
export function divExact(ac: u32, as: u32, ae: i32, am: u64): void {
  const sign = as ^ uSign;
  const bc = uClass;
  if (ac == CLASS_INFINITE) {
    setResult(bc == CLASS_INFINITE ? CLASS_INVALID : CLASS_INFINITE, sign, 0, 0, 0);
    return;
  }
  if (bc == CLASS_INFINITE) {
    setResult(CLASS_ZERO, sign, 0, 0, 0);
    return;
  }
  if (bc == CLASS_ZERO) {
    setResult(ac == CLASS_ZERO ? CLASS_INVALID : CLASS_DIVIDED_BY_ZERO, sign, 0, 0, 0);
    return;
  }
  if (ac == CLASS_ZERO) {
    setResult(CLASS_ZERO, sign, 0, 0, 0);
    return;
  }
  const d = uSig;
  const wide = am >= d;
  const q = wide ? div128(am >> 1, am << 63, d) : div128(am, 0, d);
  const r = remainder;
  // Next bit of the quotient, then everything below it as one sticky bit.
  const half = r >= d - r;
  const lo: u64 = half ? (1 << 63) | u64(r != d - r) : u64(r != 0);
  setResult(CLASS_FINITE, sign, ae - uExp - i32(!wide), q, lo);
}

/** Square root of the number unpacked last. */
export function sqrtExact(): void {
  if (uClass == CLASS_ZERO) {
    setResult(CLASS_ZERO, uSign, 0, 0, 0);
    return;
  }
  if (uSign != 0) {
    setResult(CLASS_INVALID, 0, 0, 0, 0);
    return;
  }
  if (uClass == CLASS_INFINITE) {
    setResult(CLASS_INFINITE, 0, 0, 0, 0);
    return;
  }
  // Radicand hi:lo in [2^126, 2^128); the root has exactly 64 bits.
  const odd = (uExp & 1) != 0;
  let nh = odd ? uSig : uSig >> 1;
  let nl: u64 = odd ? 0 : uSig << 63;
  let rh: u64 = 0;
  let rl: u64 = 0;
  let root: u64 = 0;
  for (let i = 0; i < 64; i++) {
    rh = (rh << 2) | (rl >> 62);
    rl = (rl << 2) | (nh >> 62);
    nh = (nh << 2) | (nl >> 62);
    nl <<= 2;
    const th = root >> 62;
    const tl = (root << 2) | 1;
    root <<= 1;
    if (rh > th || (rh == th && rl >= tl)) {
      rh = rh - th - u64(rl < tl);
      rl -= tl;
      root |= 1;
    }
  }
  const aboveHalf = rh != 0 || rl > root;
  const lo: u64 = aboveHalf ? (1 << 63) | 1 : u64(rl != 0);
  setResult(CLASS_FINITE, 0, uExp >> 1, root, lo);
}
