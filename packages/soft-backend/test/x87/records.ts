/** Records of `../native/x87-vectors.c`, executed on the unit and compared. */
import { FCW, FPR, FSW, FTAG, GPR, RFLAGS } from "../../src/cpu/layout.ts";
import { type LoadedUnit, OPERAND } from "./unit.ts";

export const RECORD_SIZE = 408;
const MEMORY_SIZE = 112;

/** Offsets in a record. */
const Field = { OPCODE: 0, MODRM: 1, FLAGS_IN: 2, FLAGS_OUT: 3, OPSIZE16: 4, BEFORE: 8, AFTER: 208 } as const;
/** Offsets in the state before and after. */
const State = { FCW: 0, FSW: 2, TAG: 4, AX: 6, ST: 8, MEMORY: 88 } as const;

const C1 = 0x200;
const STATUS = 0x45;

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

/** Executes one record. Empty if all agrees, else what differs. */
export function differences(
  { unit, bytes, view }: LoadedUnit,
  record: Uint8Array,
  { lastPlace }: Tolerance,
): string {
  const r = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const opcode = r.getUint8(Field.OPCODE);
  const modrm = r.getUint8(Field.MODRM);
  const before = Field.BEFORE;
  const after = Field.AFTER;

  unit.x87Initialise();
  const top = (r.getUint16(before + State.FSW, true) >> 11) & 7;
  view.setUint16(FCW, r.getUint16(before + State.FCW, true), true);
  view.setUint16(FSW, r.getUint16(before + State.FSW, true), true);
  view.setUint8(FTAG, r.getUint8(before + State.TAG));
  view.setUint16(GPR, r.getUint16(before + State.AX, true), true);
  view.setUint32(RFLAGS, r.getUint8(Field.FLAGS_IN) | 2, true);
  for (let i = 0; i < 8; i++) {
    const from = before + State.ST + 10 * i;
    bytes.set(record.subarray(from, from + 10), FPR + 16 * ((top + i) & 7));
  }
  bytes.set(record.subarray(before + State.MEMORY, before + State.MEMORY + MEMORY_SIZE), OPERAND);

  const vector = unit.x87Exec(opcode, modrm, OPERAND, 0n, 0n, r.getUint8(Field.OPSIZE16));

  const wrong: string[] = [];
  const check = (what: string, expected: number, found: number): void => {
    if (expected !== found) wrong.push(`${what} ${hex(expected)} but found ${hex(found)}`);
  };
  const mask = lastPlace ? 0xffff & ~C1 : 0xffff;
  check("vector", 0, vector);
  check("FCW", r.getUint16(after + State.FCW, true), view.getUint16(FCW, true));
  check("FSW", r.getUint16(after + State.FSW, true) & mask, view.getUint16(FSW, true) & mask);
  check("tag", r.getUint8(after + State.TAG), view.getUint8(FTAG));
  check("AX", r.getUint16(after + State.AX, true), view.getUint16(GPR, true));
  check("flags", r.getUint8(Field.FLAGS_OUT), view.getUint8(RFLAGS) & STATUS);
  const newTop = (view.getUint16(FSW, true) >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const expected = after + State.ST + 10 * i;
    const found = FPR + 16 * ((newTop + i) & 7);
    const limit = lastPlace ? 1 : 0;
    if (distance(r, expected, view, found) <= limit || (lastPlace && isUndefined(r))) continue;
    const text = (v: DataView, at: number): string =>
      `${hex(v.getUint16(at + 8, true))}:${hex(v.getBigUint64(at, true))}`;
    wrong.push(`ST${i} ${text(r, expected)} but found ${text(view, found)}`);
  }
  for (let i = 0; i < MEMORY_SIZE; i++) {
    if (isPointer(r, i)) continue;
    check(`memory[${i}]`, r.getUint8(after + State.MEMORY + i), view.getUint8(OPERAND + i));
  }
  if (wrong.length === 0) return "";
  const input = Buffer.from(record.subarray(before, after)).toString("hex");
  return `${hex(opcode)} ${hex(modrm)} from ${input}: ${wrong.join(", ")}`;
}

/** The first differences among all records, and how many records there are. */
export function compareAll(
  unit: LoadedUnit,
  records: Uint8Array,
  tolerance: Tolerance,
): { count: number; failures: string[] } {
  const failures: string[] = [];
  const count = records.length / RECORD_SIZE;
  for (let i = 0; i < count && failures.length < 5; i++) {
    const found = differences(unit, records.subarray(i * RECORD_SIZE, (i + 1) * RECORD_SIZE), tolerance);
    if (found !== "") failures.push(found);
  }
  return { count, failures };
}
