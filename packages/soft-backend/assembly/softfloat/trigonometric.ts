/**
 * FSIN, FCOS, FPTAN and FPATAN on unpacked numbers, to about 120 bits before rounding. Arguments are reduced with the
 * 66-bit π of x87 hardware (SDM 1 §8.3.8), so that large ones give what processors give.
 */
import { fDiv, fLow, fMul, fShift } from "./fixed128";
import { low, mul64 } from "./int128";
import { qDiv, qExp, qHi, qLo, qNormalise, qReduce, qSet } from "./real128";
import { ATAN, COS, SIN, series, seriesLow } from "./series";

/** Quadrant of the last reduced angle, modulo 4. */
let quadrant: u32 = 0;
let rNegative: bool = false;
let rHi: u64 = 0;
let rLo: u64 = 0;
let rExp: i32 = 0;

/** Sign of the last result: the magnitude is in `qHi`, `qLo`, `qExp`. */
export let negative: bool = false;

/** 66-bit π/2 in units of 2^-65. */
const HALF_PI_HI: u64 = 3;
const HALF_PI_LO: u64 = 0x243f6a8885a308d3;

/** Reduces sig·2^(exp−63), exp < 63, to at most π/4. */
export function reduceAngle(sig: u64, exp: i32): void {
  quadrant = 0;
  rNegative = false;
  if (exp < -1) {
    rHi = sig;
    rLo = 0;
    rExp = exp;
    return;
  }
  let h: u64 = 0;
  let l = sig;
  let q: u32 = 0;
  for (let n = exp + 2; n > 0; n--) {
    h = (h << 1) | (l >> 63);
    l <<= 1;
    q <<= 1;
    if (h > HALF_PI_HI || (h == HALF_PI_HI && l >= HALF_PI_LO)) {
      h = h - HALF_PI_HI - u64(l < HALF_PI_LO);
      l -= HALF_PI_LO;
      q |= 1;
    }
  }
  const restH = HALF_PI_HI - h - u64(HALF_PI_LO < l);
  const restL = HALF_PI_LO - l;
  if (h > restH || (h == restH && l > restL)) {
    h = restH;
    l = restL;
    rNegative = true;
    q++;
  }
  quadrant = q & 3;
  qNormalise(h, l, 62);
  rHi = qHi;
  rLo = qLo;
  rExp = qExp;
}

/** r² as a fraction: high word returned, low in `fLow`. */
function square(hi: u64, lo: u64, exp: i32): u64 {
  const h = fMul(hi, lo, hi, lo);
  return fShift(h, fLow, u32(min(-2 * (exp + 1), 128)));
}

function sineOfReduced(): void {
  const z = square(rHi, rLo, rExp);
  const d = series(SIN, true, z, fLow);
  qSet(rHi, rLo, rExp);
  qReduce(d, seriesLow);
}

function cosineOfReduced(): void {
  const z = square(rHi, rLo, rExp);
  const d = series(COS, true, z, fLow);
  qSet(1 << 63, 0, 0);
  qReduce(d, seriesLow);
}

/** Sine of the reduced angle. */
export function sine(): void {
  if ((quadrant & 1) != 0) {
    cosineOfReduced();
    negative = quadrant == 3;
  } else {
    sineOfReduced();
    negative = rNegative != (quadrant == 2);
  }
}

/** Cosine of the reduced angle. */
export function cosine(): void {
  if ((quadrant & 1) != 0) {
    sineOfReduced();
    negative = rNegative != (quadrant == 1);
  } else {
    cosineOfReduced();
    negative = quadrant == 2;
  }
}

/** Tangent of the reduced angle. */
export function tangent(): void {
  negative = rNegative != ((quadrant & 1) != 0);
  if (rExp < -62 && quadrant == 0) {
    qSet(rHi, rLo | 1, rExp);
    return;
  }
  sineOfReduced();
  const sh = qHi;
  const sl = qLo;
  const se = qExp;
  cosineOfReduced();
  if ((quadrant & 1) != 0) qDiv(qHi, qLo, qExp, sh, sl, se);
  else qDiv(sh, sl, se, qHi, qLo, qExp);
}

/** π in units of 2^-126. */
const PI_HI: u64 = 0xc90fdaa22168c234;
const PI_LO: u64 = 0xc4c6628b80dc1cd1;

/** atan(j/8) for j = 1…8, 128-bit fractions. */
const ARCTANGENTS: usize = memory.data<u64>([
  0x1fd5ba9aac2f6dc6, 0x5912f313e7d111de, 0x3eb6ebf25901bac5, 0x5b71e7bd7de885f9, 0x5bd86507937bc239,
  0xc55190916e7f2241, 0x76b19c1586ed3da2, 0xb7f222f65e1d4681, 0x8f005d5ef7f59f9b, 0x5c835e1665c43747,
  0xa4bc7d1934f70924, 0x19a87f2a457dac9e, 0xb8053e2bc2319e73, 0xcb2da55210a4443d, 0xc90fdaa22168c234,
  0xc4c6628b80dc1cd1,
]);

/** n·π/4, n = 1…4. */
export function quarterTurns(n: u64): void {
  negative = false;
  const h = mul64((PI_LO >> 2) | (PI_HI << 62), n);
  const l = low;
  qNormalise((PI_HI >> 2) * n + h, l, 1);
}

/** atan of n/d ≤ 1, significands and exponents. */
function smallArctangent(n: u64, ne: i32, d: u64, de: i32): void {
  qDiv(n, 0, ne, d, 0, de);
  if (qExp == 0) {
    quarterTurns(1);
    return;
  }
  if (qExp < -4) {
    const z = square(qHi, qLo, qExp);
    const deficit = series(ATAN, true, z, fLow);
    qReduce(deficit, seriesLow);
    return;
  }
  // t = j/8 + …, atan t = atan(j/8) + atan((8t − j) / (8 + j·t)); numerator and denominator in units of 2^-124.
  const th = fShift(qHi, qLo, u32(-(qExp + 1)));
  const tl = fLow;
  const j = ((th >> 60) + 1) >> 1;
  let nh = (th >> 1) - (j << 60);
  let nl = (th << 63) | (tl >> 1);
  const below = nh >> 63 != 0;
  if (below) {
    nh = 0 - nh - u64(nl != 0);
    nl = 0 - nl;
  }
  const sixteenth = fShift(th, tl, 4);
  const jh = mul64(fLow, j);
  const jl = low;
  const uh = fDiv(nh, nl, sixteenth * j + jh + (1 << 63), jl);
  const ul = fLow;
  const z = fMul(uh, ul, uh, ul);
  const deficit = series(ATAN, true, z, fLow);
  let ah = uh;
  let al = ul;
  if ((deficit | seriesLow) != 0) {
    ah = fMul(uh, ul, 0 - deficit - u64(seriesLow != 0), 0 - seriesLow);
    al = fLow;
  }
  const at = ARCTANGENTS + ((<usize>j - 1) << 4);
  const ch = load<u64>(at);
  const cl = load<u64>(at, 8);
  if (below) qNormalise(ch - ah - u64(cl < al), cl - al, -1);
  else {
    const l = cl + al;
    qNormalise(ch + ah + u64(l < cl), l, -1);
  }
}

/** Angle of the point (±x, y), y > 0: significands and exponents of non-zero finite numbers. Positive. */
export function arctangent(y: u64, ye: i32, x: u64, xe: i32, xNegative: bool): void {
  negative = false;
  const steep = ye > xe || (ye == xe && y > x);
  if (steep) smallArctangent(x, xe, y, ye);
  else smallArctangent(y, ye, x, xe);
  if (!steep && !xNegative) return;
  const h = fShift(qHi, qLo, u32(min(1 - qExp, 128)));
  const l = fLow;
  const bh = steep ? PI_HI >> 1 : PI_HI;
  const bl = steep ? (PI_HI << 63) | (PI_LO >> 1) : PI_LO;
  if (steep && xNegative) {
    const sum = bl + l;
    qNormalise(bh + h + u64(sum < bl), sum, 1);
  } else qNormalise(bh - h - u64(bl < l), bl - l, 1);
}
