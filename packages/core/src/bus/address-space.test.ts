import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { IoHandler, IoWidth } from "../contracts/index.ts";
import { mmioBus, portBus } from "./address-space.ts";

/** Byte `offset` of the region reads as `seed + offset`; remembers every access. */
class Echo implements IoHandler {
  readonly seen: string[] = [];
  readonly seed: number;
  constructor(seed = 0) {
    this.seed = seed;
  }
  read(offset: number, width: IoWidth): number {
    this.seen.push(`r${width}@${offset}`);
    let value = 0;
    for (let i = 0; i < width; i++) value |= ((this.seed + offset + i) & 0xff) << (8 * i);
    return value >>> 0;
  }
  write(offset: number, width: IoWidth, value: number): void {
    this.seen.push(`w${width}@${offset}=${value.toString(16)}`);
  }
}

describe("AddressSpace", () => {
  it("shows a handler offsets, never addresses", () => {
    const bus = portBus();
    const echo = new Echo(0x10);
    bus.map({ name: "com1", base: 0x3f8, length: 8 }, echo);
    expect(bus.read(0x3fa, 1)).toBe(0x12);
    bus.write(0x3ff, 1, 0xab);
    expect(echo.seen).toEqual(["r1@2", "w1@7=ab"]);
  });

  it("refuses an overlap, naming both regions", () => {
    const bus = portBus();
    bus.map({ name: "com1", base: 0x3f8, length: 8 }, new Echo());
    expect(() => bus.map({ name: "fdc", base: 0x3f0, length: 9 }, new Echo())).toThrow(
      expect.objectContaining({
        code: "NB_REGION_OVERLAP",
        message: expect.stringMatching(/fdc .*overlaps com1 \[0x3f8, 0x400\)/),
      }),
    );
    expect(() => bus.map({ name: "ok", base: 0x3f0, length: 8 }, new Echo())).not.toThrow();
  });

  it("refuses what is not a range of the bus", () => {
    const bus = portBus();
    expect(() => bus.map({ name: "x", base: 0xfffe, length: 4 }, new Echo())).toThrow(
      /not a range of the port bus/,
    );
    expect(() => bus.map({ name: "x", base: 8, length: 0 }, new Echo())).toThrow(/not a range/);
  });

  it("answers unclaimed accesses with ones and counts them", () => {
    const bus = mmioBus();
    expect(bus.read(0xfee0_0000, 1)).toBe(0xff);
    expect(bus.read(0x10_0000_0000, 2)).toBe(0xffff);
    expect(bus.read(0, 4)).toBe(0xffff_ffff);
    bus.write(0, 4, 1);
    expect(bus.unclaimed).toEqual({ reads: 3, writes: 1 });
  });

  it("splits at region ends and by the widest access, low bytes first", () => {
    const bus = portBus();
    const narrow = new Echo(0x40);
    const wide = new Echo(0x80);
    bus.map({ name: "narrow", base: 0x100, length: 2, widest: 1 }, narrow);
    bus.map({ name: "wide", base: 0x102, length: 8 }, wide);
    expect(bus.read(0x100, 4)).toBe(0x8180_4140);
    bus.write(0x101, 4, 0x44332211);
    expect(narrow.seen).toEqual(["r1@0", "r1@1", "w1@1=11"]);
    expect(wide.seen).toEqual(["r2@0", "w2@0=3322", "w1@2=44"]);
    // The last bytes hang over the end.
    expect(bus.read(0x109, 2)).toBe(0xff87);
    expect(bus.unclaimed.reads).toBe(1);
  });

  it("counts accesses where it is asked to", () => {
    const bus = portBus();
    const counter = { reads: 0, writes: 0 };
    const unmap = bus.map({ name: "low", base: 0x10, length: 2, widest: 1 }, new Echo(), counter);
    bus.map({ name: "other", base: 0x12, length: 2 }, new Echo());
    bus.read(0x10, 1);
    bus.read(0x10, 1);
    bus.write(0x10, 4, 0);
    expect(counter).toEqual({ reads: 2, writes: 2 });
    unmap();
    bus.map({ name: "moved", base: 0x20, length: 2 }, new Echo(), counter);
    bus.write(0x20, 2, 0);
    bus.read(0x21, 1);
    bus.read(0x10, 1);
    expect(counter).toEqual({ reads: 3, writes: 3 });
  });

  it("lets a handler move itself", () => {
    const bus = portBus();
    const moving: IoHandler = {
      read: () => 0x55,
      write: (_offset, _width, value) => {
        unmap();
        unmap = bus.map({ name: "moving", base: value, length: 4 }, moving);
      },
    };
    let unmap = bus.map({ name: "moving", base: 0x10, length: 4 }, moving);
    bus.write(0x10, 4, 0x200);
    expect(bus.read(0x10, 1)).toBe(0xff);
    expect(bus.read(0x200, 1)).toBe(0x55);
    unmap();
    unmap();
    expect(bus.read(0x200, 1)).toBe(0xff);
    expect(bus.regions).toEqual([]);
  });

  it("reads byte by byte what a flat model reads, whatever is mapped", () => {
    const regionArbitrary = fc.record({
      base: fc.integer({ min: 0, max: 40 }),
      length: fc.integer({ min: 1, max: 9 }),
      widest: fc.constantFrom<IoWidth>(1, 2, 4),
    });
    const accessArbitrary = fc.record({
      address: fc.integer({ min: 0, max: 50 }),
      width: fc.constantFrom<IoWidth>(1, 2, 4),
    });
    fc.assert(
      fc.property(
        fc.array(regionArbitrary, { maxLength: 6 }),
        fc.array(accessArbitrary),
        (regions, accesses) => {
          const bus = portBus();
          const model = new Uint8Array(64).fill(0xff);
          regions.forEach((region, index) => {
            try {
              bus.map({ name: `r${index}`, ...region }, new Echo(index * 0x11));
            } catch {
              return;
            }
            for (let i = 0; i < region.length; i++) model[region.base + i] = index * 0x11 + i;
          });
          const view = new DataView(model.buffer);
          for (const { address, width } of accesses) {
            const want =
              width === 1
                ? view.getUint8(address)
                : width === 2
                  ? view.getUint16(address, true)
                  : view.getUint32(address, true);
            expect(bus.read(address, width)).toBe(want);
          }
        },
      ),
    );
  });

  it("hangs a region's doorbells on the backend for as long as it is mapped", () => {
    const bus = mmioBus();
    const hung = new Map<number, () => void>();
    bus.shortcuts = {
      doorbell: (gpa, bell, ring) => {
        if (bell.value === 7) return undefined; // no room for it
        hung.set(gpa, ring);
        return () => void hung.delete(gpa);
      },
    };
    const seen: number[][] = [];
    const unmap = bus.map(
      { name: "bells", base: 0x1000, length: 0x100 },
      {
        doorbells: [
          { offset: 0x10 },
          { offset: 0x20, width: 2, value: 5 },
          { offset: 0x30, width: 4, value: 7 },
        ],
        read: () => 0,
        write: (...access) => void seen.push(access),
      },
    );
    expect([...hung.keys()]).toEqual([0x1010, 0x1020]);
    for (const ring of hung.values()) ring();
    expect(seen).toEqual([
      [0x10, 4, 0],
      [0x20, 2, 5],
    ]);
    unmap();
    expect(hung.size).toBe(0);
  });

  it("offers the backend posted registers and code for the vCPUs' threads for as long as they are mapped", () => {
    const bus = mmioBus();
    const taken = new Set<unknown>();
    const take = (...what: unknown[]): (() => void) => {
      taken.add(what);
      return () => void taken.delete(what);
    };
    bus.shortcuts = { posted: take, onVcpus: take };
    const source = { module: "file:///hot.js", shared: new SharedArrayBuffer(8) };
    const onVcpus = [{ offset: 0x10, length: 2, ...source }];
    const unmap = bus.map(
      { name: "hot", base: 0x1000, length: 0x100 },
      { posted: [{ offset: 8, length: 4 }], onVcpus, read: () => 0, write: () => undefined },
    );
    expect([...taken]).toEqual([
      [0x1008, 4],
      [0x1010, 2, source],
    ]);
    unmap();
    expect(taken.size).toBe(0);
  });
});
