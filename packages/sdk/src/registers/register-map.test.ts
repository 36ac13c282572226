import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakeBus } from "../testing/fake-bus.ts";
import {
  bit,
  bits,
  cHeader,
  describeAccess,
  type RegisterAccess,
  registerMap,
  registerPorts,
  registerReference,
  type RegisterSpec,
} from "./index.ts";

const timer = registerMap("timer", {
  CTRL: {
    offset: 0,
    description: "Control",
    fields: {
      ENABLE: bit(0),
      MODE: bits(1, 2, { values: { PERIODIC: 0, ONESHOT: 2 } }),
      KICK: bit(4, { access: "wo" }),
    },
  },
  STATUS: { offset: 4, access: "w1c", reset: 0x8000_0001, fields: { DONE: bit(0), ERROR: bit(31) } },
  COUNT: { offset: 8, access: "rc", reset: 7 },
  ID: { offset: 12, width: 2, access: "ro", reset: 0xbeef },
  SET: { offset: 14, width: 1, access: "w1s", reset: 0x10 },
  KEY: { offset: 15, width: 1, access: "wo", reset: 0x55 },
  LIMIT: { offset: 16, width: 2, count: 3, stride: 4, reset: 9 },
});

describe("registerMap()", () => {
  it.each([
    [
      "a write hook that is async",
      { hooks: { CTRL: { write: () => Promise.resolve() as never } } },
      "gave a promise",
    ],
    ["a sync that is async", { sync: () => Promise.resolve() as never }, "gave a promise"],
    [
      "a read hook that is async",
      { hooks: { CTRL: { read: () => Promise.resolve(1) as never } } },
      "gave a promise",
    ],
    ["a read hook that gives NaN", { hooks: { CTRL: { read: () => NaN } } }, "gave NaN"],
    [
      "a read hook that gives a bigint",
      { hooks: { CTRL: { read: () => 5n as never } } },
      "gave the bigint 5n",
    ],
  ] as const)(
    "has the bus refuse %s, through the file and through its decoder",
    (_what, behaviour, words) => {
      const file = timer.create(behaviour);
      for (const handler of [file, file.handler]) {
        for (const width of [4, 2] as const) {
          const bus = new FakeBus();
          bus.map({ name: "timer", base: 0, length: timer.length }, handler);
          const access = (): void => {
            bus.write(0, width, 1);
            bus.read(0, width);
          };
          expect(access).toThrow(words);
        }
      }
    },
  );

  it("applies the rules of each access", () => {
    const regs = timer.create();
    expect(regs.read(4, 4)).toBe(0x8000_0001);
    regs.write(4, 4, 0x8000_0000);
    expect(regs.read(4, 4)).toBe(1);
    expect([regs.read(8, 4), regs.read(8, 4)]).toEqual([7, 0]);
    regs.write(12, 2, 0);
    expect(regs.read(12, 2)).toBe(0xbeef);
    regs.write(14, 1, 3);
    expect(regs.read(14, 1)).toBe(0x13);
    regs.write(15, 1, 0xaa);
    expect([regs.read(15, 1), regs.values.KEY]).toEqual([0, 0xaa]);
    regs.write(0, 4, 0xffff_ffff);
    expect([regs.read(0, 4), regs.values.CTRL]).toEqual([0b0111, 0b1_0111]);
    regs.write(20, 2, 0x1_2345);
    expect(regs.values.LIMIT).toEqual([9, 0x2345, 9]);
    regs.reset();
    expect(regs.values).toEqual(timer.create().values);
  });

  it("gives parts of a register, several at once, and zero in gaps", () => {
    const regs = timer.create();
    expect(regs.read(7, 1)).toBe(0x80);
    regs.write(7, 1, 0x80);
    expect(regs.values.STATUS).toBe(1);
    expect(regs.read(12, 4)).toBe(0x0010_beef);
    regs.write(12, 4, 0x4401_0000);
    expect([regs.values.SET, regs.values.KEY]).toEqual([0x11, 0x44]);
    regs.write(17, 1, 0x12);
    expect(regs.values.LIMIT).toEqual([0x1209, 9, 9]);
    expect(regs.unhandled).toBe(0);
    expect(regs.read(18, 2)).toBe(0);
    regs.write(0x1e, 2, 1);
    expect(regs.unhandled).toBe(2);
    expect(regs.read(8, 1)).toBe(7);
  });

  it("reads gaps and write-only bits as ones where it is told to", () => {
    const regs = registerMap(
      "ones",
      {
        KEY: { offset: 0, access: "wo" },
        MIX: { offset: 8, fields: { A: bits(0, 4), B: bits(4, 4, { access: "wo" }) } },
      },
      { unreadable: "ones" },
    ).create({ hooks: { MIX: { read: (stored) => stored } } });
    regs.write(0, 4, 5);
    regs.write(8, 4, 0x55);
    expect([regs.read(0, 4), regs.read(1, 1), regs.read(4, 4), regs.read(6, 4)]).toEqual([
      0xffff_ffff, 0xff, 0xffff_ffff, 0x00f5_ffff,
    ]);
    expect([regs.read(8, 4), regs.read(8, 2), regs.values.MIX]).toEqual([0xf5, 0xf5, 0x55]);
  });

  it("resets each element of an array to a value of its own", () => {
    const map = registerMap("id", { ID: { offset: 0, width: 1, count: 3, reset: [1, 2, 3], access: "rw" } });
    const regs = map.create();
    regs.write(1, 1, 9);
    expect(regs.values.ID).toEqual([1, 9, 3]);
    regs.reset();
    expect([0, 1, 2].map((offset) => regs.read(offset, 1))).toEqual([1, 2, 3]);
    expect(registerReference(map)).toContain("| ID[3] | 1 | rw | 0x01, 0x02, 0x03 |");
  });

  it("calls hooks with the old and the new value, then sync", () => {
    const calls: unknown[] = [];
    const regs = timer.create({
      hooks: {
        STATUS: { write: (...heard) => void calls.push(["STATUS", ...heard]) },
        COUNT: { read: (stored) => stored + 100 },
        LIMIT: {
          write: (...heard) => void calls.push(["LIMIT", ...heard]),
          read: (stored, index) => stored * 10 + index,
        },
      },
      sync: () => void calls.push("sync"),
    });
    regs.write(4, 4, 0x8000_0000);
    regs.write(24, 2, 5);
    expect(regs.read(24, 2)).toBe(52);
    expect(calls.splice(0)).toEqual([
      ["STATUS", 1, 0x8000_0001, 0x8000_0000, 0],
      "sync",
      ["LIMIT", 5, 9, 5, 2],
      "sync",
    ]);
    expect([regs.read(8, 4), regs.read(8, 4)]).toEqual([107, 100]);
    expect(calls).toEqual(["sync"]);
  });

  it("refuses overlaps, fields outside and names that are none", () => {
    const refusal =
      (registers: Record<string, RegisterSpec>): (() => unknown) =>
      () =>
        registerMap("bad", registers);
    expect(refusal({ A: { offset: 0 }, B: { offset: 3, width: 1 } })).toThrow(
      /bad: B: offset 0x3 belongs to A/,
    );
    expect(refusal({ A: { offset: 0, width: 1, fields: { X: bit(8) } } })).toThrow(/A\.X: bits 8 to 8/);
    expect(refusal({ A: { offset: 0, fields: { X: bits(0, 3), Y: bit(2) } } })).toThrow(
      /A\.Y: another field/,
    );
    expect(refusal({ A: { offset: 0, fields: { X: bits(0, 1, { values: { BIG: 2 } }) } } })).toThrow(
      /BIG = 2/,
    );
    expect(refusal({ "A;x()": { offset: 0 } })).toThrow(/a name is/);
    expect(refusal({ A: { offset: 0, width: 1, reset: 256 } })).toThrow(/reset value 256/);
    expect(refusal({ A: { offset: 0, count: 3, reset: [1, 2] } })).toThrow(/2 reset values for 3 registers/);
    expect(refusal({ A: { offset: 0, reset: [1, 2] } })).toThrow(/2 reset values for 1 registers/);
    expect(refusal({ A: { offset: 0, count: -1 } })).toThrow(/count -1/);
  });

  it("decodes whole registers as it does the parts, for any map", () => {
    const access = fc.constantFrom<RegisterAccess>("ro", "rw", "wo", "w1c", "w1s", "rc", "reserved");
    const value = fc.oneof(fc.constantFrom(0, 1, 0xff, 0x8000_0000, 0xffff_ffff), fc.nat(0xffff_ffff));
    fc.assert(
      fc.property(
        fc.tuple(access, access, access, value),
        fc.array(fc.record({ isWrite: fc.boolean(), at: fc.nat(4), value }), { maxLength: 12 }),
        ([low, high, plain, reset], program) => {
          const map = registerMap("any", {
            SPLIT: {
              offset: 0,
              reset,
              fields: { LOW: bits(0, 12, { access: low }), HIGH: bits(12, 20, { access: high }) },
            },
            PLAIN: { offset: 4, access: plain, reset, count: 2 },
            HALF: { offset: 12, width: 2, access: low, reset: reset & 0xffff },
            BYTE: { offset: 14, width: 1, access: high, reset: reset & 0xff },
          });
          const whole = map.create();
          const parts = map.create();
          // Bytes in order make the same value, except that each byte of `rc` and `w1c` is an access of its own.
          for (const { isWrite, at, value: number } of program) {
            const [offset, width] = (
              [
                [0, 4],
                [4, 4],
                [8, 4],
                [12, 2],
                [14, 1],
              ] as const
            )[at]!;
            const wanted = number % 2 ** (8 * width);
            if (isWrite) {
              whole.write(offset, width, wanted);
              for (let byte = 0; byte < width; byte++)
                parts.write(offset + byte, 1, (wanted >>> (8 * byte)) & 0xff);
            } else {
              let assembled = 0;
              for (let byte = 0; byte < width; byte++)
                assembled += parts.read(offset + byte, 1) * 2 ** (8 * byte);
              expect(whole.read(offset, width)).toBe(assembled);
            }
            expect(whole.values).toEqual(parts.values);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("saved registers", () => {
  it("survive JSON and load all or nothing", () => {
    const regs = timer.create();
    regs.write(0, 4, 1);
    regs.write(20, 2, 77);
    const state = JSON.parse(JSON.stringify(regs.save())) as ReturnType<typeof regs.save>;
    const other = timer.create();
    other.restore(state);
    expect(other.save()).toEqual(regs.save());
    other.write(20, 2, 1);
    expect(regs.values.LIMIT[1]).toBe(77);
    const fresh = timer.create();
    const damaged = { ...state, registers: { ...state.registers, LIMIT: [1, 2] } };
    expect(() => fresh.restore(damaged)).toThrow(
      /timer: cannot restore: LIMIT: expected 3 values of 2 bytes, found \[1,2\]/,
    );
    expect(() => fresh.restore({ ...state, registers: { ...state.registers, NEW: 1 } })).toThrow(
      /no register NEW/,
    );
    expect(() => fresh.restore({ ...state, version: 2 })).toThrow(/version 2 is newer than 1/);
    expect(fresh.save()).toEqual(timer.create().save());
  });

  it("leave out what the device keeps itself", () => {
    const map = registerMap("window", { A: { offset: 0 }, PINS: { offset: 4, count: 4, isSaved: false } });
    const regs = map.create({ hooks: { PINS: { read: (_stored, index) => index } } });
    regs.write(0, 4, 1);
    regs.write(8, 4, 7);
    expect(regs.save().registers).toEqual({ A: 1 });
    const other = map.create();
    other.restore(regs.save());
    expect(other.values).toEqual({ A: 1, PINS: [0, 0, 0, 0] });
    expect(() => other.restore({ version: 1, registers: { A: 1, PINS: [0, 0, 0, 0] } })).toThrow(
      /no register PINS/,
    );
  });

  it("of an older version are upgraded step by step", () => {
    const map = registerMap(
      "grown",
      { CTRL: { offset: 0 }, EXTRA: { offset: 4, reset: 3 } },
      { version: 3, upgrades: { 2: (registers) => ({ ...registers, EXTRA: 5 }) } },
    );
    const regs = map.create();
    regs.restore({ version: 2, registers: { CTRL: 9 } });
    expect(regs.values).toEqual({ CTRL: 9, EXTRA: 5 });
    expect(() => regs.restore({ version: 1, registers: { CTRL: 9 } })).toThrow(
      /version 1 has no upgrade to 2/,
    );
  });
});

describe("registerPorts()", () => {
  it("reads and writes by field names, which the compiler checks", () => {
    const bus = new FakeBus();
    const regs = timer.create();
    bus.map({ name: "timer", base: 0x1000, length: timer.length }, regs.handler);
    const ports = registerPorts(timer, bus, 0x1000);
    ports.CTRL.write({ ENABLE: 1, MODE: "ONESHOT" });
    expect(regs.values.CTRL).toBe(0b101);
    expect(ports.CTRL.fields()).toEqual({ ENABLE: 1, MODE: 2, KICK: 0 });
    ports.CTRL.update({ ENABLE: 0 });
    expect(ports.CTRL.read()).toBe(0b100);
    ports.LIMIT[2]?.write(40);
    expect(regs.values.LIMIT).toEqual([9, 9, 40]);
    // @ts-expect-error a misspelt field
    expect(() => ports.CTRL.write({ ENABEL: 1 })).toThrow(/ENABEL/);
    // @ts-expect-error a value that the field does not have
    expect(() => ports.CTRL.write({ MODE: "TWICE" })).toThrow(/TWICE/);
    // @ts-expect-error a register that is not there
    expect(ports.CTLR).toBeUndefined();
    // @ts-expect-error a misspelt mask
    expect(timer.masks.CTRL.ENABEL).toBeUndefined();
    expect(timer.masks.STATUS.ERROR).toBe(0x8000_0000);
  });
});

describe("documents of a register map", () => {
  it("are traces by name", () => {
    expect(describeAccess(timer, "write", 0, 4, 5)).toBe("write CTRL = 0x5 { ENABLE MODE=ONESHOT }");
    expect(describeAccess(timer, "read", 20, 2, 9)).toBe("read LIMIT[1] = 0x9");
    expect(describeAccess(timer, "read", 5, 1, 9)).toBe("read STATUS+1 = 0x9 (1 bytes)");
    expect(describeAccess(timer, "read", 0x1e, 1, 0)).toBe("read 0x1e = 0x0 (1 bytes)");
  });

  it("are a reference in Markdown", () => {
    expect(registerReference(timer)).toContain("| 0x00 | CTRL | 4 | rw | 0x00 | Control |");
    expect(registerReference(timer)).toContain("| 0x10 + 4 × n | LIMIT[3] | 2 | rw | 0x09 | |");
    expect(registerReference(timer)).toContain("| 2:1 | MODE | rw | 0 PERIODIC, 2 ONESHOT | |");
  });

  it("are a table in Markdown, whatever a description says", () => {
    const map = registerMap("odd", {
      A: {
        offset: 0,
        description: "this | that,\n  and more",
        fields: { B: bit(0, { description: "1|2" }) },
      },
    });
    const reference = registerReference(map);
    expect(reference).toContain("| 0x00 | A | 4 | rw | 0x00 | this \\| that, and more |\n");
    expect(reference).toContain("| 0 | B | rw | | 1\\|2 |\n");
  });

  it("are a header in C", () => {
    const header = cHeader(timer, { prefix: "tmr" });
    expect(header).toContain("#define TMR_STATUS 0x04\n#define TMR_STATUS_DONE 0x00000001u");
    expect(header).toContain("#define TMR_LIMIT(n) (0x10 + 4 * (n))");
    expect(header).toContain("#define TMR_CTRL_MODE_ONESHOT (2u << 1)");
  });
});
