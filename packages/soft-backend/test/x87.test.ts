/**
 * The x87 unit against recorded results of a real CPU (AMD Zen 5), and against the host's where it can be asked.
 * Compared: every register, tag, FCW, FSW with all condition codes, EFLAGS, AX and memory. Exempt: in transcendental
 * results one unit in the last place and C1; FYL2XP1 beyond |x| < 1, where it is undefined; instruction and data
 * pointers in environment images.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { FCW, FDP, FIP, FOP, FPR, FSW, FTAG, MODE, MXCSR, XMM } from "../src/cpu/layout.ts";
import { campaign } from "./fuzz/campaign.ts";
import { readGolden } from "./x87/golden.ts";
import { isHostUsable, runNative } from "./x87/host.ts";
import { executeOnCore } from "./x87/core-program.ts";
import { type Tolerance, differences, split } from "./x87/records.ts";
import { type LoadedUnit, OPERAND, executeOnUnit, loadUnit } from "./x87/unit.ts";

let loaded: LoadedUnit;
beforeAll(async () => {
  loaded = await loadUnit();
}, 60_000);

const exact = { lastPlace: false };
const close = { lastPlace: true };

/** The first differences of the unit, and how many records there are. */
function compareAll(records: Uint8Array, tolerance: Tolerance): { count: number; failures: string[] } {
  const failures: string[] = [];
  let count = 0;
  for (const record of split(records)) {
    count++;
    const found = differences(record, executeOnUnit(loaded, record), tolerance);
    if (found !== "" && failures.length < 5) failures.push(found);
  }
  return { count, failures };
}

/** Offsets in the table of `native/x87-vectors.c`: per opcode, without and with 66, 8 sizes and 64 register forms. */
function checkTable(table: Uint8Array): string[] {
  const wrong: string[] = [];
  for (let opcode = 0xd8; opcode <= 0xdf; opcode++) {
    for (const opsize16 of [0, 1]) {
      const row = table.subarray(((opcode - 0xd8) * 2 + opsize16) * 72);
      for (let group = 0; group < 8; group++) {
        const info = loaded.unit.x87Info(opcode, group << 3, opsize16);
        const found = info === 0 ? 0 : (info & 0x7f) | (info & 0x100 ? 0x80 : 0);
        if (found !== row[group])
          wrong.push(`${opcode.toString(16)} /${group}: ${row[group]}, found ${found}`);
      }
      for (let modrm = 0xc0; modrm < 0x100; modrm++) {
        const found = Number(loaded.unit.x87Info(opcode, modrm, opsize16) !== 0);
        if (found !== row[8 + modrm - 0xc0])
          wrong.push(`${opcode.toString(16)} ${modrm.toString(16)}: found ${found}`);
      }
    }
  }
  return wrong;
}

describe("golden vectors of a real CPU", () => {
  test.each([
    ["x87-basic", exact, 4000],
    ["x87-environment", exact, 250],
    ["x87-transcendental", close, 2000],
  ])("%s", (name, tolerance, expected) => {
    const { count, failures } = compareAll(readGolden(name), tolerance);
    expect(failures).toEqual([]);
    expect(count).toBe(expected);
  });

  test("legal encodings, sizes and directions of memory operands", () => {
    expect(checkTable(readGolden("x87-table"))).toEqual([]);
  });
});

describe.skipIf(!isHostUsable())("this host's CPU (needs gcc on x86-64)", () => {
  test.each([
    ["basic", exact],
    ["environment", exact],
    ["transcendental", close],
  ])(
    "fresh %s vectors",
    (kind, tolerance) => {
      campaign((seed) => {
        const records = runNative("x87-vectors", "records", String(seed), "10000", kind);
        expect(compareAll(records, tolerance).failures, `seed ${seed}`).toEqual([]);
      });
    },
    600_000,
  );
});

describe("the whole core", () => {
  test.each([
    ["x87-basic", 400],
    ["x87-environment", 200],
  ])("decodes and executes %s", async (name, count) => {
    const records = [...split(readGolden(name))].slice(0, count);
    const failures = (await executeOnCore(records)).flatMap((outcome, i) => {
      const found = differences(records[i]!, outcome, exact);
      return found === "" ? [] : [found];
    });
    expect(failures.slice(0, 5)).toEqual([]);
  });
});

describe("pending exceptions", () => {
  const exec = (opcode: number, modrm: number): number =>
    loaded.unit.x87Exec(opcode, modrm, OPERAND, 0x1234_5678_9abcn, 0xdef0_1234n, 0);

  const divideByZero = (): void => {
    loaded.unit.x87Initialise();
    loaded.view.setUint16(FCW, 0x37b, true);
    expect([exec(0xd9, 0xe8), exec(0xd9, 0xee), exec(0xd8, 0xf1)]).toEqual([0, 0, 0]); // FLD1, FLDZ, FDIV ST, ST(1): 0/1
    expect(exec(0xd9, 0xc9)).toBe(0); // FXCH
    expect(exec(0xd8, 0xf1)).toBe(0); // FDIV ST, ST(1): 1/0
  };

  test("an unmasked exception is reported by the next waiting instruction (SDM 1 §8.6)", () => {
    divideByZero();
    expect(loaded.view.getUint16(FSW, true) & 0x80bf).toBe(0x8084);
    expect(loaded.unit.x87Wait()).toBe(16);
    expect(exec(0xd9, 0xe8)).toBe(16);
    expect(exec(0xdf, 0xe0)).toBe(0); // FNSTSW AX does not wait
    expect(exec(0xdb, 0xe2)).toBe(0); // FNCLEX
    expect(loaded.unit.x87Wait()).toBe(0);
    expect(exec(0xd9, 0xe8)).toBe(0);
  });

  test("the pointers name the last instruction that was not a control instruction (SDM 1 §8.1.8)", () => {
    divideByZero();
    loaded.unit.x87Exec(0xdb, 0xe2, 0, 1n, 0n, 0);
    expect(loaded.view.getBigUint64(FIP, true)).toBe(0x1234_5678_9abcn);
    expect(loaded.view.getUint16(FOP, true)).toBe(0x0f1);
    exec(0xd9, 0x00);
    expect(loaded.view.getUint16(FOP, true)).toBe(0x100);
    expect(loaded.view.getBigUint64(FDP, true)).toBe(0xdef0_1234n);
    exec(0xd9, 0x30); // FNSTENV
    expect(loaded.view.getUint32(OPERAND + 12, true)).toBe(0x5678_9abc);
    expect(loaded.view.getUint32(OPERAND + 16, true)).toBe(0x0100_0000);
    expect(loaded.view.getUint32(OPERAND + 20, true)).toBe(0xdef0_1234);
  });

  test("a store that raises an unmasked exception leaves memory alone (SDM 1 §8.5.4)", () => {
    const { unit, bytes, view } = loaded;
    unit.x87Initialise();
    bytes.set([0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x7f - 1], OPERAND); // 2^16128
    expect(exec(0xdb, 0x28)).toBe(0); // FLD m80
    expect(unit.x87Stored.value).toBe(0);
    view.setUint16(FCW, 0x377, true);
    view.setUint32(OPERAND, 0x12345678, true);
    expect(exec(0xd9, 0x10)).toBe(0); // FST m32
    expect([unit.x87Stored.value, view.getUint32(OPERAND, true)]).toEqual([0, 0x12345678]);
    exec(0xdb, 0xe2);
    view.setUint16(FCW, 0x37f, true);
    expect(exec(0xd9, 0x10)).toBe(0);
    expect([unit.x87Stored.value, view.getUint32(OPERAND, true)]).toEqual([1, 0x7f800000]);
  });

  test("an invalid encoding is #UD", () => {
    expect(exec(0xd9, 0xd1)).toBe(6);
    expect(exec(0xdd, 0x28)).toBe(6);
  });
});

describe("FXSAVE and FXRSTOR (SDM 1 §10.5.1)", () => {
  test("an image survives the round trip", () => {
    const { unit, bytes, view } = loaded;
    view.setUint32(MODE, 3, true);
    const image = Uint8Array.from({ length: 512 }, (_, i) => (i * 37 + 11) & 0xff);
    const expected = new DataView(image.buffer);
    expected.setUint16(0, 0x027f, true);
    expected.setUint16(2, 0x3800 | 0x0100, true); // TOP 7
    image[4] = 0b1000_0001;
    image[5] = 0;
    expected.setUint16(6, 0x7ff & 0x4d9, true);
    expected.setUint32(24, 0x9fff, true);
    expected.setUint32(28, 0xffff, true);
    for (let i = 0; i < 8; i++) image.fill(0, 32 + 16 * i + 10, 48 + 16 * i);
    bytes.set(image, OPERAND);
    expect(unit.fxrstor(OPERAND, 1)).toBe(0);
    expect(view.getUint16(FCW, true)).toBe(0x027f);
    expect(view.getUint8(FTAG)).toBe(0b1000_0001);
    expect(view.getUint32(MXCSR, true)).toBe(0x9fff);
    expect(bytes.slice(FPR + 7 * 16, FPR + 7 * 16 + 10)).toEqual(image.slice(32, 42)); // ST(0) is R7
    expect(bytes.slice(XMM, XMM + 256)).toEqual(image.slice(160, 416));
    bytes.fill(0xee, OPERAND + 512, OPERAND + 1024);
    unit.fxsave(OPERAND + 512, 1);
    expect(bytes.slice(OPERAND + 512, OPERAND + 512 + 416)).toEqual(image.slice(0, 416));
    // Left to software.
    expect(bytes.slice(OPERAND + 512 + 464, OPERAND + 1024)).toEqual(new Uint8Array(48).fill(0xee));
    // Without REX.W the pointers have 32 bits.
    unit.fxsave(OPERAND + 512, 0);
    expect(view.getUint32(OPERAND + 512 + 8, true)).toBe(expected.getUint32(8, true));
    expect(view.getUint32(OPERAND + 512 + 12, true)).toBe(0);
  });

  test("only eight XMM registers outside 64-bit mode", () => {
    const { unit, bytes, view } = loaded;
    view.setUint32(MODE, 2, true);
    bytes.fill(0x55, XMM, XMM + 256);
    bytes.fill(0xaa, OPERAND, OPERAND + 512);
    unit.fxsave(OPERAND, 0);
    expect(bytes.slice(OPERAND + 160, OPERAND + 160 + 256)).toEqual(
      new Uint8Array(256).fill(0x55, 0, 128).fill(0xaa, 128),
    );
    view.setUint32(MODE, 3, true);
  });

  test("reserved bits of MXCSR are #GP, and nothing is loaded", () => {
    const { unit, bytes, view } = loaded;
    view.setUint32(MXCSR, 0x1f80, true);
    bytes.fill(0, OPERAND, OPERAND + 512);
    view.setUint32(OPERAND + 24, 0x1_0000, true);
    view.setUint16(FCW, 0x37f, true);
    expect(unit.fxrstor(OPERAND, 0)).toBe(13);
    expect([view.getUint16(FCW, true), view.getUint32(MXCSR, true)]).toEqual([0x37f, 0x1f80]);
  });
});

test("power-on and initial state (SDM 3A table 9-1, SDM 1 §13.6)", () => {
  const { unit, view } = loaded;
  unit.x87Reset();
  expect([view.getUint16(FCW, true), view.getUint16(FSW, true), view.getUint8(FTAG)]).toEqual([
    0x40, 0, 0xff,
  ]);
  unit.x87Initialise();
  expect([view.getUint16(FCW, true), view.getUint16(FSW, true), view.getUint8(FTAG)]).toEqual([0x37f, 0, 0]);
});
