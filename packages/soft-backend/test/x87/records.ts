/** Records of `../native/x87-vectors.c`: their layout, and the comparison with what was found. */
export const RECORD_SIZE = 408;
export const MEMORY_SIZE = 112;
export const STATE_SIZE = 200;

type FieldName = "OPCODE" | "MODRM" | "FLAGS_IN" | "FLAGS_OUT" | "OPSIZE16" | "BEFORE" | "AFTER";
type StateName = "FCW" | "FSW" | "TAG" | "AX" | "ST" | "MEMORY";

/** Offsets in a record. */
export const Field: Readonly<Record<FieldName, number>> = {
  OPCODE: 0,
  MODRM: 1,
  FLAGS_IN: 2,
  FLAGS_OUT: 3,
  OPSIZE16: 4,
  BEFORE: 8,
  AFTER: 208,
};
/** Offsets in the state before and after. */
export const State: Readonly<Record<StateName, number>> = {
  FCW: 0,
  FSW: 2,
  TAG: 4,
  AX: 6,
  ST: 8,
  MEMORY: 88,
};

const C1 = 0x200;
/** CF, PF and ZF. */
export const FLAGS = 0x45;

/** What is compared. */
export interface Tolerance {
  /** Registers may differ by one unit in the last place, and C1 (the direction of rounding) is not compared. */
  readonly lastPlace: boolean;
}

const hex = (value: number | bigint): string => value.toString(16);

/** Distance of two f80 numbers of the same sign in units in the last place. */
function distance(a: DataView, aAt: number, b: DataView, bAt: number): number {
  const signs = a.getUint16(aAt + 8, true) ^ b.getUint16(bAt + 8, true);
  if (signs & 0x8000) return Infinity;
  // A step of the exponent is a step from the largest significand to the smallest, 2^63 apart.
  const exponents = (a.getUint16(aAt + 8, true) & 0x7fff) - (b.getUint16(bAt + 8, true) & 0x7fff);
  const significands =
    (a.getUint32(aAt + 4, true) - b.getUint32(bAt + 4, true)) * 2 ** 32 +
    (a.getUint32(aAt, true) - b.getUint32(bAt, true));
  return Math.abs(exponents * 2 ** 63 + significands);
}

/** FYL2XP1 is defined for |x| < 1 − √2/2; processors and we agree somewhat further, below 1. */
function isUndefined(record: DataView): boolean {
  return (
    record.getUint8(Field.OPCODE) === 0xd9 &&
    record.getUint8(Field.MODRM) === 0xf9 &&
    (record.getUint16(Field.BEFORE + State.ST + 8, true) & 0x7fff) >= 0x3fff
  );
}

/** The last instruction and its operand in an environment image: processors differ in when they keep them. */
function isPointer(record: DataView, at: number): boolean {
  const opcode = record.getUint8(Field.OPCODE);
  const group = (record.getUint8(Field.MODRM) >> 3) & 7;
  if (record.getUint8(Field.MODRM) >= 0xc0 || group !== 6 || (opcode !== 0xd9 && opcode !== 0xdd))
    return false;
  return record.getUint8(Field.OPSIZE16) ? at >= 6 && at < 14 : at >= 12 && at < 28;
}

/** What an implementation made of a record. */
export interface Outcome {
  /** 0, or the exception. */
  readonly vector: number;
  readonly flags: number;
  /** As the state after in a record. */
  readonly state: Uint8Array;
}

/** How the outcome differs from the record; empty if it does not. */
export function differences(record: Uint8Array, outcome: Outcome, { lastPlace }: Tolerance): string {
  const r = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const { state } = outcome;
  const found = new DataView(state.buffer, state.byteOffset, state.byteLength);
  const after = Field.AFTER;
  const wrong: string[] = [];
  const check = (what: string, expected: number, actual: number): void => {
    if (expected !== actual) wrong.push(`${what} ${hex(expected)} but found ${hex(actual)}`);
  };
  const mask = lastPlace ? 0xffff & ~C1 : 0xffff;
  check("vector", 0, outcome.vector);
  check("FCW", r.getUint16(after + State.FCW, true), found.getUint16(State.FCW, true));
  check("FSW", r.getUint16(after + State.FSW, true) & mask, found.getUint16(State.FSW, true) & mask);
  check("tag", r.getUint8(after + State.TAG), found.getUint8(State.TAG));
  check("AX", r.getUint16(after + State.AX, true), found.getUint16(State.AX, true));
  check("flags", r.getUint8(Field.FLAGS_OUT), outcome.flags & FLAGS);
  for (let i = 0; i < 8; i++) {
    const at = State.ST + 10 * i;
    if (distance(r, after + at, found, at) <= (lastPlace ? 1 : 0) || (lastPlace && isUndefined(r))) continue;
    const text = (v: DataView, from: number): string =>
      `${hex(v.getUint16(from + 8, true))}:${hex(v.getBigUint64(from, true))}`;
    wrong.push(`ST${i} ${text(r, after + at)} but found ${text(found, at)}`);
  }
  for (let i = 0; i < MEMORY_SIZE; i++) {
    if (isPointer(r, i)) continue;
    check(`memory[${i}]`, r.getUint8(after + State.MEMORY + i), found.getUint8(State.MEMORY + i));
  }
  if (wrong.length === 0) return "";
  const input = Buffer.from(record.subarray(Field.BEFORE, after)).toString("hex");
  const instruction = `${hex(r.getUint8(Field.OPCODE))} ${hex(r.getUint8(Field.MODRM))}`;
  return `${instruction} from ${input}: ${wrong.join(", ")}`;
}

/** The records one by one. */
export function* split(records: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < records.length; at += RECORD_SIZE) yield records.subarray(at, at + RECORD_SIZE);
}
