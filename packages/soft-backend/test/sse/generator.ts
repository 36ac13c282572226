/** Biased inputs: values at which instructions change their behaviour are as likely as random ones. */
import { CASE_SIZE, CaseField, type Encoding, type Instruction } from "./case.ts";

/** xoroshiro-like generator with a reproducible stream per (seed, encoding). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ 0x6a09e667) >>> 0;
  }

  u32(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (x ^ (x >>> 15)) >>> 0;
  }

  below(n: number): number {
    return this.u32() % n;
  }

  pick(values: readonly number[]): number {
    return values[this.below(values.length)] ?? 0;
  }
}

/** Significands and exponents at the edges of binary32 and binary64, without sign. */
const F32 = [
  0, 0, 1, 0x7fffff, 0x400000, 0x800000, 0x800001, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fa00000, 0x7fc00000,
  0x7fffffff, 0x3f800000, 0x3f000000, 0x3fc00000, 0x4f000000, 0x4effffff, 0x5f000000, 0x5effffff, 0x4b000000,
  0x4b7fffff, 0x40200000,
];
const F64_HIGH = [
  0, 0, 0, 1, 0x7ffff, 0xfffff, 0x100000, 0x7fefffff, 0x7ff00000, 0x7ff00000, 0x7ff40000, 0x7ff80000,
  0x7fffffff, 0x3ff00000, 0x3fe00000, 0x3ff80000, 0x41e00000, 0x41dfffff, 0x43e00000, 0x43dfffff, 0x43300000,
  0x38100000, 0x380fffff, 0x47efffff, 0x36a00000, 0x369fffff, 0x40040000,
];
const WORDS = [0, 0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x8001, 0xff80, 0x0080, 0xff7f];

function f32(r: Random): number {
  const sign = r.below(2) * 0x80000000;
  switch (r.below(8)) {
    case 0:
    case 1:
      return (sign + r.pick(F32)) >>> 0;
    case 2: // small integers and halves
      return new Uint32Array(new Float32Array([(r.below(64) - 32) / 2]).buffer)[0]!;
    case 3: // near the smallest normal numbers
      return (sign + r.below(3) * 0x800000 + (r.u32() & 0x7fffff)) >>> 0;
    case 4: // exponents whose products or quotients over- and underflow
      return (
        (sign +
          r.pick([0x1f, 0x20, 0x3f, 0x40, 0xbe, 0xbf, 0xc0, 0xfe, 0xfd, 0x68]) * 0x800000 +
          (r.u32() & 0x7fffff)) >>>
        0
      );
    case 5: // comparable exponents
    case 6:
      return (sign + (0x7c + r.below(8)) * 0x800000 + ((r.u32() & r.u32() & 0x7fffff) >>> 0)) >>> 0;
    default:
      return r.u32();
  }
}

function f64(r: Random, out: Uint32Array, at: number): void {
  const sign = r.below(2) * 0x80000000;
  let low = r.pick([
    0,
    0,
    1,
    0xffffffff,
    0xe0000000,
    0xefffffff,
    0xf0000000,
    0x20000000,
    0x10000000,
    0x10000001,
    0x30000000,
    r.u32(),
    r.u32(),
  ]);
  let high: number;
  switch (r.below(8)) {
    case 0:
    case 1:
    case 2:
      high = r.pick(F64_HIGH);
      break;
    case 3: {
      const value = new Uint32Array(new Float64Array([(r.below(64) - 32) / 2]).buffer);
      low = value[0]!;
      high = value[1]! & 0x7fffffff;
      break;
    }
    case 4:
      high =
        r.pick([
          0, 1, 2, 0x1ff, 0x200, 0x3fe, 0x400, 0x5fe, 0x5ff, 0x600, 0x7fd, 0x7fe, 0x381, 0x380, 0x36a, 0x47e,
          0x43d, 0x41d,
        ]) * 0x100000;
      high += r.u32() & 0xfffff;
      break;
    case 5:
    case 6:
      high = (0x3fc + r.below(8)) * 0x100000 + (r.u32() & r.u32() & 0xfffff);
      break;
    default:
      high = r.u32() & 0x7fffffff;
  }
  out[at] = low >>> 0;
  out[at + 1] = (sign + high) >>> 0;
}

type Kind = "integer" | "f32" | "f64" | "text";

function kindOf(e: Encoding, r: Random): Kind {
  if (r.below(10) === 0) return "integer";
  if (e.map === 3 && e.opcode >= 0x60 && e.opcode <= 0x63) return "text";
  const single = r.below(8) !== 0;
  if (e.map === 1) {
    if (e.opcode === 0x5a) return e.prefix === 0 || e.prefix === 2 ? "f32" : "f64";
    if (e.opcode === 0x5b) return e.prefix === 0 ? "integer" : "f32";
    if (e.opcode === 0xe6) return e.prefix === 2 ? "integer" : "f64";
    if (e.opcode === 0x2a) return "integer";
    if (e.opcode === 0x7c || e.opcode === 0x7d || e.opcode === 0xd0) return e.prefix === 1 ? "f64" : "f32";
    if (e.opcode < 0x60 || e.opcode === 0xc2 || e.opcode === 0xc6) {
      return (e.prefix === 0 || e.prefix === 2) === single ? "f32" : "f64";
    }
  }
  if (e.map === 3) {
    if (e.opcode === 0x08 || e.opcode === 0x0a || e.opcode === 0x40) return "f32";
    if (e.opcode === 0x09 || e.opcode === 0x0b || e.opcode === 0x41) return "f64";
  }
  return "integer";
}

/** Fills `count` dwords (even) from `at`. */
function fill(r: Random, kind: Kind, out: Uint32Array, at: number, count: number): void {
  const bytes = new Uint8Array(out.buffer, out.byteOffset + at * 4, count * 4);
  if (kind === "f32") for (let i = 0; i < count; i++) out[at + i] = f32(r);
  else if (kind === "f64") for (let i = 0; i < count; i += 2) f64(r, out, at + i);
  else if (kind === "text") {
    const letters = r.pick([2, 3, 8]);
    const wide = r.below(2);
    const zeros = r.pick([0, 1, 4]);
    for (let i = 0; i < bytes.length; i++) {
      bytes[i] =
        wide && i & 1
          ? r.pick([0, 0, 0, 0x80])
          : r.below(20) < zeros
            ? 0
            : 0x61 + r.below(letters) + (letters === 8 ? 0x7c : 0);
    }
  } else {
    const mode = r.below(4);
    for (let i = 0; i < count; i++) {
      if (mode === 0) out[at + i] = r.u32();
      else if (mode === 1) out[at + i] = (r.pick(WORDS) | (r.pick(WORDS) << 16)) >>> 0;
      else if (mode === 2)
        out[at + i] = r.pick([0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x01000000, r.below(256), r.u32()]);
      else
        for (let k = 0; k < 4; k++) bytes[4 * i + k] = r.pick([0, 1, 0x7f, 0x80, 0x81, 0xff, r.below(256)]);
    }
  }
}

/**
 * Factors, or dividend and divisor, whose result is a hair below the smallest normal number: it rounds up to that number
 * and yet is tiny, because tininess is judged with unbounded exponent (SDM 1 §4.9.1.5).
 */
function boundary(r: Random, kind: "f32" | "f64", out: Uint32Array): void {
  const single = kind === "f32";
  const bias = single ? 127 : 1023;
  const first = bias >> 1;
  const second = r.below(2) ? bias - first : first + bias;
  const unit = single ? 0x800000 : 0x100000;
  const step = single ? 1 : 2;
  for (const [at, dwords] of [
    [0, 16],
    [CaseField.MEM / 4, 4],
  ] as const) {
    for (let i = at; i < at + dwords; i += step) {
      // XMM0 and XMM2 hold the first operand, XMM1, XMM3 and the memory the second.
      const isFirst = at === 0 && ((i >> 2) & 1) === 0;
      const low = r.below(4) === 0 ? 1 : 0;
      const sign = r.below(2) * 0x80000000;
      const top = isFirst ? first * unit + (unit - 1) : second * unit;
      if (single) out[i] = (sign + top + (isFirst ? -low : low)) >>> 0;
      else {
        out[i] = isFirst ? 0xffffffff - low : low;
        out[i + 1] = (sign + top) >>> 0;
      }
    }
  }
}

/** PE set and everything masked is the core's fast path; the rest are the ways out of it. */
function mxcsr(r: Random): number {
  switch (r.below(8)) {
    case 0:
    case 1:
    case 2:
      return 0x1fa0 | r.below(32);
    case 3:
      return 0x1f80;
    case 4: // rounding, DAZ and FTZ
      return 0x1f80 | (r.below(4) << 13) | (r.below(2) << 15) | (r.below(2) << 6) | r.below(64);
    case 5:
      return 0x1f80 | (r.below(4) << 13);
    case 6: // one exception unmasked
      return (0x1f80 & ~(0x80 << r.below(6))) | (r.below(4) << 13);
    default:
      return r.u32() & 0xffff;
  }
}

/** Whether two registers of general type hold counts that an instruction takes from RAX and RDX. */
const isExplicitLength = (e: Encoding): boolean => e.map === 3 && (e.opcode === 0x60 || e.opcode === 0x61);
const isShift = (e: Encoding): boolean =>
  e.map === 1 && e.opcode >= 0xd1 && [1, 2, 3].includes(e.opcode & 7) && (e.opcode & 8) === 0;

/** A case for `encoding` and the instruction in it. */
export function generate(
  encoding: Encoding,
  r: Random,
): { instruction: Instruction; input: Uint8Array<ArrayBuffer> } {
  const dwords = new Uint32Array(CASE_SIZE / 4);
  const view = new DataView(dwords.buffer);
  const kind = kindOf(encoding, r);
  fill(r, kind, dwords, CaseField.XMM / 4, 16);
  fill(r, kind === "text" ? "integer" : kind, dwords, CaseField.MM / 4, 8);
  fill(r, kind === "text" || r.below(2) ? "integer" : kind, dwords, CaseField.GPR / 4, 8);
  fill(r, kind, dwords, CaseField.MEM / 4, 4);
  const copy = r.below(4);
  if (copy === 0) dwords.copyWithin(0, 4, 8);
  else if (copy === 1) dwords.copyWithin(CaseField.MEM / 4, 4, 8);
  if ((kind === "f32" || kind === "f64") && r.below(5) === 0) boundary(r, kind, dwords);
  if (isExplicitLength(encoding)) {
    for (const at of [0, 4]) {
      const length = r.below(4) ? r.below(20) - (r.below(4) ? 0 : 18) : r.u32() | 0;
      view.setInt32(CaseField.GPR + at * 4, length, true);
      if (r.below(2)) view.setInt32(CaseField.GPR + at * 4 + 4, length >> 31, true);
    }
  }
  if (isShift(encoding) && r.below(8)) {
    for (const at of [0, 16, 32, 48, CaseField.MEM]) view.setBigUint64(at, BigInt(r.below(70)), true);
    for (const at of [0, 8, 16, 24])
      if (r.below(2)) view.setBigUint64(CaseField.MM + at, BigInt(r.below(70)), true);
  }
  view.setUint32(CaseField.MXCSR, mxcsr(r), true);
  // TF, IF and the others stay as user mode has them.
  view.setUint32(CaseField.FLAGS, 0x202 | (r.u32() & 0x8d5), true);
  const top = r.below(8);
  view.setUint16(CaseField.FSW, top << 11, true);
  view.setUint16(CaseField.FTAG, r.below(256), true);
  for (let i = 0; i < 4; i++)
    view.setUint16(CaseField.EXPONENT + 2 * i, r.pick([0x3fff, 0x4000, 0x7fff]), true);
  const instruction = {
    ...encoding,
    reg: r.below(4),
    rm: r.below(4),
    imm: r.below(4) ? r.below(32) ^ (r.below(8) << 5) : r.below(256),
  };
  return { instruction, input: new Uint8Array(dwords.buffer) };
}
