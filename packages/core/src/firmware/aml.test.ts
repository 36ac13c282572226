import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { buffer, hardwareId, integer, nameString, packageOf } from "./aml.ts";

/** ACPI 6.4 §20.2.4, read as an interpreter does. */
function readLength(aml: readonly number[], at: number): { length: number; bytes: number } {
  const lead = aml[at]!;
  const extra = lead >> 6;
  if (extra === 0) return { length: lead & 0x3f, bytes: 1 };
  let length = lead & 0xf;
  for (let index = 0; index < extra; index++) length += aml[at + 1 + index]! * 2 ** (4 + 8 * index);
  return { length, bytes: 1 + extra };
}

describe("AML", () => {
  it("writes integers in the shortest form that reads back", () => {
    const sizes: Readonly<Record<number, number>> = { 0x0a: 1, 0x0b: 2, 0x0c: 4, 0x0e: 8 };
    const edges = fc.constantFrom(0, 1, 2, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 2 ** 32, 2 ** 40);
    fc.assert(
      fc.property(fc.oneof(edges, fc.maxSafeNat()), (value) => {
        const aml = integer(value);
        if (value < 2) {
          expect(aml).toEqual([value]);
          return;
        }
        const size = sizes[aml[0]!]!;
        expect(aml).toHaveLength(1 + size);
        expect(aml.slice(1).reduce((sum, byte, index) => sum + byte * 256 ** index, 0)).toBe(value);
        if (size > 1) expect(value).toBeGreaterThanOrEqual(2 ** (4 * size));
      }),
    );
  });

  it("counts its own bytes in every package length", () => {
    const lengths = fc.oneof(
      fc.constantFrom(0, 60, 61, 62, 63, 64, 4090, 4091, 4092, 4093, 4094),
      fc.nat(70_000),
    );
    fc.assert(
      fc.property(lengths, (size) => {
        const aml = buffer(Array.from({ length: size }, () => 0xaa));
        const { length, bytes } = readLength(aml, 1);
        expect(length).toBe(aml.length - 1);
        expect([...aml.slice(1 + bytes, 1 + bytes + integer(size).length)]).toEqual([...integer(size)]);
      }),
    );
  });

  it("compresses EISA identifiers as ACPI §19.3.4 says", () => {
    // PNP0A03 is 0x030AD041 in every machine's DSDT.
    expect(hardwareId("PNP0A03")).toEqual([0x0c, 0x41, 0xd0, 0x0a, 0x03]);
    expect(hardwareId("LNRO0005")).toEqual([0x0d, ...Buffer.from("LNRO0005\0")]);
  });

  it("pads names and refuses what is none", () => {
    expect(nameString("\\_S5")).toEqual([...Buffer.from("\\_S5_")]);
    expect(() => nameString("1ABC")).toThrow(RangeError);
    expect(() => nameString("TOOLONG")).toThrow(RangeError);
  });

  it("counts the elements of a package", () => {
    expect(packageOf([integer(5), integer(0)])).toEqual([0x12, 0x05, 2, 0x0a, 5, 0]);
  });
});
