/**
 * Software floating point of f32 and f64 against recorded results of a real CPU's scalar SSE (AMD Zen 5), and against
 * the host's where it can be asked: result bits and exception flags, all rounding modes, FTZ and DAZ, exceptions masked.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { readGolden } from "./x87/golden.ts";
import { campaign } from "./fuzz/campaign.ts";
import { isHostUsable, runNative } from "./x87/host.ts";
import { type LoadedUnit, type Unit, loadUnit } from "./x87/unit.ts";

let loaded: LoadedUnit;
beforeAll(async () => {
  loaded = await loadUnit();
}, 60_000);

const RECORD_SIZE = 32;

/** ZF, PF, CF as COMISD sets them. */
const COMPARISON: ReadonlyMap<number, number> = new Map([
  [-1, 0x01],
  [0, 0x40],
  [1, 0x00],
  [2, 0x45],
]);

const OPERATIONS = [
  "add",
  "sub",
  "mul",
  "div",
  "sqrt",
  "comis",
  "ucomis",
  "to i32",
  "truncate to i32",
  "to i64",
  "truncate to i64",
  "from i32",
  "from i64",
  "convert",
  "round",
] as const;

function double(
  unit: Unit,
  operation: number,
  a: bigint,
  b: bigint,
  rounding: number,
): bigint | number | undefined {
  switch (operation) {
    case 0:
      return unit.f64Add(a, b);
    case 1:
      return unit.f64Sub(a, b);
    case 2:
      return unit.f64Mul(a, b);
    case 3:
      return unit.f64Div(a, b);
    case 4:
      return unit.f64Sqrt(a);
    case 5:
    case 6:
      return COMPARISON.get(unit.f64Compare(a, b, Number(operation === 5)));
    case 7:
    case 8:
      return unit.f64ToI32(a, operation - 7);
    case 9:
    case 10:
      return unit.f64ToI64(a, operation - 9);
    case 11:
      return unit.i32ToF64(Number(BigInt.asIntN(32, a)));
    case 12:
      return unit.i64ToF64(a);
    case 13:
      return unit.f64ToF32(a);
    default:
      return unit.f64RoundToInt(a, rounding, 0);
  }
}

function single(
  unit: Unit,
  operation: number,
  wide: bigint,
  b: number,
  rounding: number,
): bigint | number | undefined {
  const a = Number(BigInt.asIntN(32, wide));
  switch (operation) {
    case 0:
      return unit.f32Add(a, b);
    case 1:
      return unit.f32Sub(a, b);
    case 2:
      return unit.f32Mul(a, b);
    case 3:
      return unit.f32Div(a, b);
    case 4:
      return unit.f32Sqrt(a);
    case 5:
    case 6:
      return COMPARISON.get(unit.f32Compare(a, b, Number(operation === 5)));
    case 7:
    case 8:
      return unit.f32ToI32(a, operation - 7);
    case 9:
    case 10:
      return unit.f32ToI64(a, operation - 9);
    case 11:
      return unit.i32ToF32(a);
    case 12:
      return unit.i64ToF32(wide);
    case 13:
      return unit.f32ToF64(a);
    default:
      return unit.f32RoundToInt(a, rounding, 0);
  }
}

function compareAll(records: Uint8Array): { count: number; failures: string[] } {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  const failures: string[] = [];
  let count = 0;
  for (let at = 0; at < records.length && failures.length < 5; at += RECORD_SIZE) {
    count++;
    const operation = view.getUint8(at) & 15;
    const isSingle = view.getUint8(at) >= 16;
    const mxcsr = view.getUint16(at + 2, true);
    const a = view.getBigUint64(at + 8, true);
    const b = view.getBigUint64(at + 16, true);
    const rounding = (mxcsr >> 13) & 3;
    loaded.unit.sfUseMxcsr(mxcsr);
    loaded.unit.sfClearFlags();
    const found = isSingle
      ? single(loaded.unit, operation, a, Number(BigInt.asIntN(32, b)), rounding)
      : double(loaded.unit, operation, a, b, rounding);
    const bits =
      typeof found === "bigint" ? BigInt.asUintN(64, found) : found === undefined ? -1n : BigInt(found >>> 0);
    const result = `${bits.toString(16)} flags ${loaded.unit.sfFlags.value.toString(16)}`;
    const expected = `${view.getBigUint64(at + 24, true).toString(16)} flags ${view.getUint16(at + 4, true).toString(16)}`;
    if (result === expected) continue;
    const operands = `${a.toString(16)}, ${b.toString(16)}, MXCSR ${mxcsr.toString(16)}`;
    failures.push(
      `${isSingle ? "f32" : "f64"} ${OPERATIONS[operation] ?? "?"} of ${operands}: ${expected} but found ${result}`,
    );
  }
  return { count, failures };
}

test("golden vectors of a real CPU", () => {
  const { count, failures } = compareAll(readGolden("softfloat"));
  expect(failures).toEqual([]);
  expect(count).toBe(5000);
});

describe.skipIf(!isHostUsable())("this host's CPU (needs gcc on x86-64)", () => {
  test("fresh vectors", () => {
    campaign((seed) => {
      const { failures } = compareAll(runNative("softfloat-vectors", String(seed), "50000"));
      expect(failures, `seed ${seed}`).toEqual([]);
    });
  }, 600_000);
});
