import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { memoryMap } from "../memory/layout.ts";
import { E820_RAM, E820_RESERVED, e820Map } from "./e820.ts";
import { placeInitrd } from "./initrd-placement.ts";

const machines = fc.record({
  layout: fc.constantFrom("pc" as const, "flat" as const),
  mib: fc.oneof(fc.constantFrom(1, 2, 128, 3071, 3072, 3073, 4096), fc.integer({ min: 1, max: 8192 })),
  busCount: fc.constantFrom(0, 1, 16, 256),
});

const firmwareOf = (busCount: number) =>
  busCount === 0
    ? []
    : [
        {
          kind: "pciRoot" as const,
          ecamGpa: 0xe000_0000,
          busCount,
          mmio32: { gpa: 0xc000_0000, length: 0x1000_0000 },
          io: { base: 0xc000, length: 0x1000 },
          intxGsiBase: 16,
          intxGsiCount: 4,
        },
      ];

describe("e820Map", () => {
  it("is ascending, without overlaps, and says RAM only where there is some", () => {
    fc.assert(
      fc.property(machines, ({ layout, mib, busCount }) => {
        const map = memoryMap(layout, mib);
        const e820 = e820Map(map, firmwareOf(busCount));
        for (const [index, entry] of e820.entries()) {
          expect(entry.length).toBeGreaterThan(0);
          const next = e820[index + 1];
          if (next !== undefined) expect(entry.gpa + entry.length).toBeLessThanOrEqual(next.gpa);
          if (entry.type === E820_RAM) {
            const inside = map.some(
              ({ gpa, length, kind }) =>
                kind === "ram" && gpa <= entry.gpa && entry.gpa + entry.length <= gpa + length,
            );
            expect(inside).toBe(true);
          }
        }
      }),
    );
  });

  it("keeps RAM above 4 GiB and reserves ECAM", () => {
    expect(e820Map(memoryMap("pc", 4096), firmwareOf(16))).toEqual([
      { gpa: 0, length: 0x9_fc00, type: E820_RAM },
      { gpa: 0x9_fc00, length: 0x400, type: E820_RESERVED },
      { gpa: 0xc_0000, length: 0x4_0000, type: E820_RESERVED },
      { gpa: 0x10_0000, length: 0xbff0_0000, type: E820_RAM },
      { gpa: 0xe000_0000, length: 0x100_0000, type: E820_RESERVED },
      { gpa: 2 ** 32, length: 2 ** 30, type: E820_RAM },
    ]);
  });

  it("reserves the firmware tables inside the RAM of a flat layout, and only where there are any", () => {
    const tables = { gpa: 0xe_0000, length: 0x2_0000, type: E820_RESERVED };
    expect(e820Map(memoryMap("flat", 2), firmwareOf(1))).toContainEqual(tables);
    expect(e820Map(memoryMap("flat", 2), [])).not.toContainEqual(tables);
  });
});

describe("placeInitrd", () => {
  it("finds the highest page inside RAM, below the limit and above the kernel, or refuses", () => {
    fc.assert(
      fc.property(
        machines,
        fc.oneof(fc.integer({ min: 1, max: 2 ** 20 }), fc.integer({ min: 1, max: 2 ** 32 })),
        fc.constantFrom(0x7fff_ffff, 0x37ff_ffff, 0xffff_ffff),
        fc.integer({ min: 0x100_0000, max: 0x800_0000 }),
        ({ layout, mib, busCount }, length, addrMax, kernelEnd) => {
          const e820 = e820Map(memoryMap(layout, mib), firmwareOf(busCount));
          const fits = (gpa: number): boolean =>
            gpa >= kernelEnd &&
            gpa + length - 1 <= addrMax &&
            e820.some(
              (range) =>
                range.type === E820_RAM && range.gpa <= gpa && gpa + length <= range.gpa + range.length,
            );
          let gpa: number;
          try {
            gpa = placeInitrd("i", length, { e820, addrMax, kernelEnd });
          } catch (error) {
            expect(error).toMatchObject({ code: "NB_BOOT_IMAGE" });
            expect(fits(Math.ceil(kernelEnd / 4096) * 4096)).toBe(false);
            return;
          }
          expect(gpa % 4096).toBe(0);
          expect(fits(gpa)).toBe(true);
          expect(fits(gpa + 4096)).toBe(false);
        },
      ),
    );
  });
});
