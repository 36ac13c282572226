import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MemorySlot } from "../contracts/index.ts";
import { memoryMap } from "./layout.ts";
import { SlottedGuestMemory } from "./slotted-guest-memory.ts";

const PAGE = 4096;

const slot = (name: string, gpa: number, pages: number, readOnly = false): MemorySlot => ({
  name,
  gpa,
  length: pages * PAGE,
  readOnly,
  bytes: new Uint8Array(new SharedArrayBuffer(pages * PAGE)),
});

/** RAM at 0, adjoining RAM at 0x2000, a hole, ROM at 0x5000, adjoining RAM at 0x6000. */
const make = () => {
  const rom = slot("rom", 0x5000, 1, true);
  const slots = [slot("high", 0x6000, 1), rom, slot("low", 0, 2), slot("next", 0x2000, 1)];
  const reports: [number, number][] = [];
  return {
    memory: new SlottedGuestMemory(slots, (gpa, length) => reports.push([gpa, length])),
    reports,
    rom,
  };
};

describe("SlottedGuestMemory", () => {
  it("copies across adjoining slots and reports each", () => {
    const { memory, reports } = make();
    const bytes = Uint8Array.from({ length: 8 }, (_, i) => i + 1);
    expect(memory.write(0x1ffc, bytes)).toBe(true);
    expect(reports).toEqual([
      [0x1ffc, 4],
      [0x2000, 4],
    ]);
    const back = new Uint8Array(8);
    expect(memory.read(0x1ffc, back)).toBe(true);
    expect(back).toEqual(bytes);
    expect(memory.readU32(0x1ffe)).toBe(0x0605_0403);
    expect(memory.writeU32(0x1ffe, 0xdead_beef)).toBe(true);
    expect(memory.readU16(0x1fff)).toBe(0xadbe);
  });

  it("leaves everything alone where a byte is not memory", () => {
    const { memory, reports } = make();
    const into = new Uint8Array(4).fill(7);
    expect(memory.read(0x2ffe, into)).toBe(false);
    expect(into).toEqual(new Uint8Array(4).fill(7));
    expect(memory.write(0x2ffe, into)).toBe(false);
    expect(memory.readU32(0x2ffe)).toBe(0xffff_ffff);
    expect(memory.readU16(0x4fff)).toBe(0xffff);
    expect(memory.readU8(0x3000)).toBe(0xff);
    expect(memory.readU16(0x2ffe)).toBe(0);
    expect(memory.view(0x1ffe, 4)).toBeUndefined();
    expect(memory.view(-1, 1)).toBeUndefined();
    expect(memory.view(0, -1)).toBeUndefined();
    expect(memory.read(Number.NaN, into)).toBe(false);
    expect(reports).toEqual([]);
  });

  it("keeps ROM from being written", () => {
    const { memory, rom } = make();
    rom.bytes[0] = 0x42;
    expect(memory.readU8(0x5000)).toBe(0x42);
    expect(memory.writeU8(0x5000, 1)).toBe(false);
    expect(memory.writeU16(0x5fff, 1)).toBe(false);
    expect(memory.write(0x5ffe, new Uint8Array(4))).toBe(false);
    expect(memory.readU32(0x5ffe)).toBe(0);
    expect(rom.bytes[0]).toBe(0x42);
  });

  it("reports the parts of a written range that are memory", () => {
    const { memory, reports } = make();
    memory.written(0x2f00, 0x2200);
    expect(reports).toEqual([
      [0x2f00, 0x100],
      [0x5000, 0x100],
    ]);
  });

  it("agrees with a flat model on every range", () => {
    const { memory } = make();
    const kinds = Array.from({ length: 9 }, (_, page) =>
      page < 3 || page === 6 ? "ram" : page === 5 ? "rom" : "hole",
    );
    const kindAt = (gpa: number): string => kinds[Math.floor(gpa / PAGE)] ?? "hole";
    const nearEdge = fc
      .tuple(fc.nat(8), fc.integer({ min: -5, max: 5 }))
      .map(([page, by]) => Math.max(0, page * PAGE + by));
    fc.assert(
      fc.property(nearEdge, fc.integer({ min: 1, max: 2 * PAGE }), (gpa, length) => {
        const touched = [kindAt(gpa), kindAt(gpa + length - 1), kindAt(gpa + Math.min(PAGE, length - 1))];
        expect(memory.read(gpa, new Uint8Array(length))).toBe(!touched.includes("hole"));
        expect(memory.write(gpa, new Uint8Array(length))).toBe(touched.every((kind) => kind === "ram"));
      }),
    );
  });
});

describe("memoryMap", () => {
  it("leaves the video hole and the PCI hole", () => {
    expect(memoryMap("pc", 4096)).toEqual([
      { gpa: 0, length: 0xa_0000, kind: "ram" },
      { gpa: 0xc_0000, length: 0x4_0000, kind: "reserved" },
      { gpa: 0x10_0000, length: 0xbff0_0000, kind: "ram" },
      { gpa: 0x1_0000_0000, length: 0x4000_0000, kind: "ram" },
    ]);
    expect(memoryMap("flat", 3072)).toEqual([{ gpa: 0, length: 0xc000_0000, kind: "ram" }]);
    expect(memoryMap("pc", 1)).toHaveLength(2);
  });

  it("refuses what is no amount of memory", () => {
    for (const mib of [0, -1, 1.5, Number.NaN, Infinity]) {
      expect(() => memoryMap("pc", mib)).toThrow(expect.objectContaining({ code: "NB_CONFIG" }));
    }
  });
});
