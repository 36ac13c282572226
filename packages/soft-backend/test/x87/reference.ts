/**
 * The functions of the transcendental x87 instructions in big integers, to several hundred bits: what their results are
 * measured against. Angles are reduced by the 66-bit π of x87 processors (SDM 1 §8.3.8), other functions are exact.
 */

/** n·2^e. */
export interface Exact {
  readonly n: bigint;
  readonly e: number;
}

const BITS = 640;
const ONE = 1n << BigInt(BITS);
/** Arguments below 2^−200 are so small that the first term of a series is the function to 400 bits. */
const TINY = -200;

const multiply = (a: bigint, b: bigint): bigint => (a * b) >> BigInt(BITS);
const divide = (a: bigint, b: bigint): bigint => (a << BigInt(BITS)) / b;
const shifted = (n: bigint, by: number): bigint => (by >= 0 ? n << BigInt(by) : n >> BigInt(-by));
/** Position of the leading bit of n > 0. */
const topOf = (n: bigint): number => n.toString(2).length - 1;
/** As a fixed-point number. */
const fixed = ({ n, e }: Exact): bigint => shifted(n, e + BITS);
const exact = (n: bigint): Exact => ({ n, e: -BITS });

/** 1/k + s·1/(3k³) + 1/(5k⁵) …: artanh or, with s = −1, arctan of 1/k. */
function inverseSeries(k: bigint, sign: bigint): bigint {
  let sum = 0n;
  let power = ONE / k;
  for (let i = 1n; power !== 0n; i += 2n) {
    sum += (sign < 0n && (i & 2n) !== 0n ? -power : power) / i;
    power /= k * k;
  }
  return sum;
}

const LN2 = 18n * inverseSeries(26n, 1n) - 2n * inverseSeries(4801n, 1n) + 8n * inverseSeries(8749n, 1n);
const PI = 16n * inverseSeries(5n, -1n) - 4n * inverseSeries(239n, -1n);

/** Sum of z·(±z²)ⁱ/(2i + 1). */
function oddSeries(z: bigint, sign: bigint): bigint {
  const square = multiply(z, z);
  let sum = 0n;
  let power = z;
  for (let i = 1n; power !== 0n && power !== -1n; i += 2n) {
    sum += power / i;
    power = sign * multiply(power, square);
  }
  return sum;
}

/** ln(1 + d), −1 < d. */
const logarithm1p = (d: bigint): bigint => 2n * oddSeries(divide(d, 2n * ONE + d), 1n);

/** 2^x − 1. */
export function powerMinusOne(x: Exact): Exact {
  if (topOf(x.n < 0n ? -x.n : x.n) + x.e < TINY) return { n: x.n * LN2, e: x.e - BITS };
  const t = multiply(fixed(x), LN2);
  let sum = 0n;
  let term = t;
  for (let i = 2n; term !== 0n && term !== -1n; i++) {
    sum += term;
    term = multiply(term, t) / i;
  }
  return exact(sum);
}

/** y·log2(x), x > 0. */
export function scaledLogarithm(x: Exact, y: Exact): Exact {
  const top = topOf(x.n);
  // Near 1 from below too, so that nothing cancels.
  const exponent = top + x.e + (top > 0 && x.n >> BigInt(top - 1) === 3n ? 1 : 0);
  const d = shifted(x.n, BITS + x.e - exponent) - ONE;
  const log = BigInt(exponent) * ONE + divide(logarithm1p(d), LN2);
  return { n: log * y.n, e: y.e - BITS };
}

/** y·log2(1 + x). */
export function scaledLogarithmOfSum(x: Exact, y: Exact): Exact {
  if (topOf(x.n < 0n ? -x.n : x.n) + x.e < TINY)
    return { n: divide((x.n * y.n) << BigInt(BITS), LN2), e: x.e + y.e - BITS };
  return { n: divide(logarithm1p(fixed(x)), LN2) * y.n, e: y.e - BITS };
}

function squareRoot(n: bigint): bigint {
  let root = 1n << BigInt((topOf(n) >> 1) + 1);
  while (true) {
    const next = (root + n / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/** arctan(u), 0 ≤ u ≤ 1. */
function arctangent(u: bigint): bigint {
  let z = u;
  for (let i = 0; i < 3; i++) z = divide(z, ONE + squareRoot((ONE + multiply(z, z)) * ONE));
  return oddSeries(z, -1n) << 3n;
}

/** Angle of the point (x, y), neither of them 0. */
export function angle(x: Exact, y: Exact): Exact {
  const size = ({ n, e }: Exact): Exact => ({ n: n < 0n ? -n : n, e });
  const [ax, ay] = [size(x), size(y)];
  const exponent = topOf(ay.n) + ay.e - topOf(ax.n) - ax.e;
  const sign = y.n < 0n ? -1n : 1n;
  if (exponent < TINY && x.n > 0n) return { n: sign * divide(ay.n, ax.n), e: ay.e - ax.e - BITS };
  const ratio = (a: Exact, b: Exact): bigint => shifted((a.n << 200n) / b.n, a.e - b.e + BITS - 200);
  let found: bigint;
  if (exponent < 0) found = arctangent(ratio(ay, ax));
  else found = PI / 2n - (exponent > 0 ? arctangent(ratio(ax, ay)) : oneOctave(ax, ay));
  return exact(sign * (x.n < 0n ? PI - found : found));
}

/** arctan(a/b), 1/2 < a/b < 2. */
function oneOctave(a: Exact, b: Exact): bigint {
  const ratio = divide(fixed({ n: a.n, e: -topOf(a.n) }), fixed({ n: b.n, e: -topOf(b.n) }));
  return ratio <= ONE ? arctangent(ratio) : PI / 2n - arctangent(divide(ONE, ratio));
}

/** 66-bit π/2 in units of 2^−65. */
const HALF_PI_66 = 0x3_243f_6a88_85a3_08d3n;

/** Sine and cosine, |x| < 2^63. */
export function circular(x: Exact): { sine: Exact; cosine: Exact } {
  if (topOf(x.n < 0n ? -x.n : x.n) + x.e < TINY) return { sine: x, cosine: exact(ONE) };
  const half = HALF_PI_66 << BigInt(BITS - 65);
  const argument = fixed(x);
  const turns = (2n * argument + half) / (2n * half) - (2n * argument + half < 0n ? 1n : 0n);
  const r = argument - turns * half;
  const square = multiply(r, r);
  let sine = 0n;
  let cosine = 0n;
  let term = ONE;
  for (let i = 1n; term !== 0n && term !== -1n; i += 2n) {
    cosine += term;
    const odd = multiply(term, r) / i;
    sine += odd;
    term = -multiply(term, square) / (i * (i + 1n));
  }
  const quadrant = ((turns % 4n) + 4n) % 4n;
  const [s, c] =
    quadrant === 0n
      ? [sine, cosine]
      : quadrant === 1n
        ? [cosine, -sine]
        : quadrant === 2n
          ? [-sine, -cosine]
          : [-cosine, sine];
  return { sine: exact(s), cosine: exact(c) };
}

export function tangent(x: Exact): Exact {
  const { sine, cosine } = circular(x);
  return { n: (sine.n << BigInt(BITS)) / cosine.n, e: sine.e - cosine.e - BITS };
}

const LEAST_EXPONENT = -16445;

/** The number of an 80-bit pattern, if it is a finite one other than 0. */
export function exactOf(bytes: Uint8Array): Exact | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 10);
  const significand = view.getBigUint64(0, true);
  const signAndExponent = view.getUint16(8, true);
  const exponent = signAndExponent & 0x7fff;
  if (exponent === 0x7fff || significand === 0n || (exponent !== 0 && significand >> 63n === 0n))
    return undefined;
  return { n: signAndExponent & 0x8000 ? -significand : significand, e: Math.max(exponent, 1) - 16383 - 63 };
}

/** How far `found` is above `wanted`, in units of the last place that an 80-bit number as large as `wanted` has. */
export function unitsAbove(found: Exact, wanted: Exact): number {
  const size = wanted.n < 0n ? -wanted.n : wanted.n;
  const unit = Math.max(topOf(size) + wanted.e - 63, LEAST_EXPONENT);
  const common = Math.min(found.e, wanted.e, unit - 40);
  const difference = shifted(found.n, found.e - common) - shifted(wanted.n, wanted.e - common);
  return Number(difference / shifted(1n, unit - 40 - common)) / 2 ** 40;
}
