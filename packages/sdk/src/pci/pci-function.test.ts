import { type IoHandler, NorthbridgeError } from "@northbridge/core/contracts";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakeMachine } from "../testing/index.ts";
import { PciFunction, type PciFunctionOptions, type PciFunctionStateV1 } from "./pci-function.ts";

/** Sixteen registers that remember. */
function memory(): IoHandler & { readonly words: Map<number, number> } {
  const words = new Map<number, number>();
  return {
    words,
    read: (offset) => words.get(offset) ?? 0,
    write: (offset, _width, value) => {
      words.set(offset, value);
    },
  };
}

const identity = {
  vendorId: 0x1af4,
  deviceId: 0x1042,
  revision: 1,
  classCode: 0x01_00_00,
  subsystemVendorId: 0x1af4,
  subsystemId: 0x1100,
} as const;

function setup(options: Partial<PciFunctionOptions> = {}) {
  const machine = new FakeMachine();
  const low = memory();
  const high = memory();
  const port = memory();
  const fn = new PciFunction(machine.context("disk"), {
    ...identity,
    interruptPin: 1,
    bars: [
      {
        index: 0,
        kind: "memory32",
        length: 0x4000,
        regions: [{ offset: 0x1000, length: 0x1000, handler: low }],
      },
      {
        index: 2,
        kind: "memory64",
        length: 0x1_0000,
        prefetchable: true,
        regions: [{ offset: 0, length: 0x1_0000, handler: high }],
      },
      { index: 4, kind: "io", length: 0x20, regions: [{ offset: 0, length: 0x20, handler: port }] },
    ],
    msix: { vectors: 3, bar: 1 },
    ...options,
  });
  fn.connect(17);
  const rd = (offset: number, width: 1 | 2 | 4 = 4) => fn.configRead(offset, width);
  const wr = (offset: number, value: number, width: 1 | 2 | 4 = 4) => {
    fn.configWrite(offset, width, value);
  };
  const size = (bar: number) => {
    wr(0x10 + 4 * bar, 0xffff_ffff);
    const mask = rd(0x10 + 4 * bar);
    wr(0x10 + 4 * bar, 0);
    return mask;
  };
  return { machine, fn, rd, wr, size, low, high, port, regions: () => machine.mmio.regions };
}

const MSIX = 0x40;

describe("PciFunction", () => {
  it("has the header of PCI 3.0 §6.1", () => {
    const { rd } = setup();
    expect([rd(0x00), rd(0x08), rd(0x2c)]).toEqual([0x1042_1af4, 0x0100_0001, 0x1100_1af4]);
    expect([rd(0x0e, 1), rd(0x34, 1), rd(0x3d, 1), rd(0x06, 2)]).toEqual([0, MSIX, 1, 0x0010]);
  });

  it("keeps read-only bits and answers beyond its space with ones", () => {
    const { rd, wr } = setup();
    for (let offset = 0; offset < 0x40; offset += 4) wr(offset, 0xffff_ffff);
    expect([rd(0x00), rd(0x08), rd(0x2c), rd(0x04, 2), rd(0x3c, 2)]).toEqual([
      0x1042_1af4, 0x0100_0001, 0x1100_1af4, 0x0547, 0x01ff,
    ]);
    expect([rd(0x100), rd(0xffc, 2), rd(0xfff, 1)]).toEqual([0xffff_ffff, 0xffff, 0xff]);
  });

  it("answers BAR sizing", () => {
    const { size } = setup();
    expect([0, 1, 2, 3, 4, 5].map(size)).toEqual([
      0xffff_c000, 0xffff_f000, 0xffff_000c, 0xffff_ffff, 0x0000_ffe1, 0,
    ]);
  });

  it("maps a BAR where the guest puts it, while the command register says so", () => {
    const { machine, wr, low, regions } = setup();
    wr(0x10, 0xc000_0000);
    expect(regions()).toEqual([]);
    wr(0x04, 0x0002, 2);
    machine.mmio.write(0xc000_1008, 4, 0x1234);
    expect(low.words.get(8)).toBe(0x1234);
    expect(machine.mmio.read(0xc000_0000, 4)).toBe(0); // no region there
    wr(0x10, 0xc100_0000);
    expect(machine.mmio.read(0xc100_1008, 4)).toBe(0x1234);
    expect(machine.mmio.read(0xc000_1008, 4)).toBe(0xffff_ffff);
    wr(0x04, 0, 2);
    expect(regions()).toEqual([]);
  });

  it("maps 64-bit BARs above 4 GiB and I/O BARs on the port bus", () => {
    const { machine, wr, high, port } = setup();
    wr(0x18, 0x0002_0000);
    wr(0x1c, 0x10);
    wr(0x20, 0x6040);
    wr(0x04, 0x0003, 2);
    machine.mmio.write(0x10_0002_0004, 4, 7);
    machine.ports.out(0x6044, 9, 4);
    expect([high.words.get(4), port.words.get(4)]).toEqual([7, 9]);
  });

  it("leaves a BAR at 0 or where sizing left it unmapped", () => {
    const { machine, wr, regions } = setup();
    wr(0x04, 0x0003, 2);
    for (let bar = 0; bar < 6; bar++) wr(0x10 + 4 * bar, 0xffff_ffff);
    expect([regions(), machine.portBus.regions]).toEqual([[], []]);
  });

  it("does not throw where the guest stacks BARs, and maps them once they part", () => {
    const { wr, fn, regions } = setup();
    wr(0x04, 0x0002, 2);
    wr(0x10, 0xc000_0000);
    wr(0x14, 0xc000_0000);
    expect(fn.hasConflict).toBe(true);
    expect(regions().map((region) => region.name)).toEqual(["disk.bar0"]);
    wr(0x10, 0xc100_0000);
    expect(fn.hasConflict).toBe(false);
    expect(regions().map((region) => [region.name, region.base])).toContainEqual(["disk.bar1", 0xc000_0000]);
  });

  it("drives INTx unless disabled, and shows it in Status", () => {
    const { machine, fn, rd, wr } = setup();
    fn.setIntx(true);
    expect([machine.gsi(17), rd(0x06, 2), rd(0x04), rd(0x06, 1)]).toEqual([true, 0x0018, 0x0018_0000, 0x18]);
    wr(0x04, 0x0400, 2);
    expect([machine.gsi(17), rd(0x06, 2)]).toEqual([false, 0x0018]);
    wr(0x04, 0, 2);
    expect(machine.gsi(17)).toBe(true);
    wr(MSIX, 0x8000_0000);
    expect(machine.gsi(17)).toBe(false);
    wr(MSIX, 0);
    fn.setIntx(false);
    expect([machine.gsi(17), rd(0x06, 2)]).toEqual([false, 0x0010]);
  });

  it("sends MSI-X messages, keeps them pending while masked", () => {
    const { machine, fn, rd, wr } = setup();
    expect(rd(MSIX, 1)).toBe(0x11);
    expect([rd(MSIX + 2, 2), rd(MSIX + 4), rd(MSIX + 8)]).toEqual([2, 1, 0x801]);
    wr(0x14, 0xc000_0000);
    wr(0x04, 0x0002, 2);
    const entry = (vector: number, data: number, masked: number) => {
      [0xfee0_1000, 0, data, masked].forEach((word, i) => {
        machine.mmio.write(0xc000_0000 + 16 * vector + 4 * i, 4, word);
      });
    };
    entry(0, 0x41, 0);
    entry(2, 0x43, 1);
    expect(fn.msix?.signal(0)).toBe(false); // off
    wr(MSIX + 2, 0x8000, 2);
    expect([fn.msix?.signal(0), fn.msix?.signal(2), fn.msix?.signal(3)]).toEqual([true, true, false]);
    expect(machine.msi.messages).toEqual([{ address: 0xfee0_1000, data: 0x41 }]);
    expect(machine.mmio.read(0xc000_0800, 4)).toBe(0b100);
    entry(2, 0x44, 0);
    expect(machine.msi.messages.at(-1)).toEqual({ address: 0xfee0_1000, data: 0x44 });
    expect(machine.mmio.read(0xc000_0800, 4)).toBe(0);
    wr(MSIX + 2, 0xc000, 2);
    fn.msix?.signal(0);
    expect(machine.msi.messages.length).toBe(2);
    wr(MSIX + 2, 0x8000, 2);
    expect(machine.msi.messages.length).toBe(3);
  });

  it("sends MSI once enabled", () => {
    const { msix: _, ...plain } = { msix: 0 };
    const machine = new FakeMachine();
    const fn = new PciFunction(machine.context("net"), { ...identity, ...plain, msi: true });
    expect(fn.signalMsi()).toBe(false);
    fn.configWrite(0x44, 4, 0xfee0_2003);
    fn.configWrite(0x4c, 2, 0x55);
    fn.configWrite(0x42, 2, 0xffff);
    expect(fn.configRead(0x42, 2)).toBe(0x0081);
    expect(fn.signalMsi()).toBe(true);
    expect(machine.msi.messages).toEqual([{ address: 0xfee0_2000, data: 0x55 }]);
  });

  it("links capabilities and calls the device around accesses", () => {
    const seen: string[] = [];
    const { rd, wr, fn } = setup({
      capabilities: [
        { id: 0x09, body: Uint8Array.of(16, 1) },
        {
          id: 0x09,
          body: new Uint8Array(18),
          writable: new Uint8Array(18).fill(0xff, 2),
          beforeRead: (offset, width) => {
            seen.push(`read ${offset} ${width}`);
            fn.config.set(0x50 + 2 + offset, 4, 0xabcd);
          },
          afterWrite: (offset, width) => seen.push(`write ${offset} ${width}`),
        },
      ],
    });
    expect([rd(0x34, 1), rd(0x41, 1), rd(0x4d, 1), rd(0x51, 1)]).toEqual([0x40, 0x4c, 0x50, 0]);
    wr(0x54, 0x1122_3344);
    expect(rd(0x60)).toBe(0xabcd);
    expect(seen).toEqual(["write 2 4", "read 14 4"]);
    expect(rd(0x54, 4)).toBe(0xabcd);
    expect(fn.config.read(0x54, 4)).toBe(0xabcd);
  });

  it("refuses what a device author cannot mean", () => {
    const machine = new FakeMachine();
    const make = (options: Partial<PciFunctionOptions>) => () =>
      new PciFunction(machine.context("x"), { ...identity, ...options });
    const bar = { index: 0, kind: "memory32", length: 4096, regions: [] } as const;
    expect(make({ bars: [{ ...bar, length: 3000 }] })).toThrow(/x: BAR 0: length 3000/);
    expect(make({ bars: [bar, bar] })).toThrow(/BAR 0 is taken/);
    expect(make({ bars: [{ ...bar, index: 5, kind: "memory64" }] })).toThrow(/BAR 6/);
    expect(make({ bars: [bar], msix: { vectors: 1, bar: 0 } })).toThrow(NorthbridgeError);
    expect(make({ msix: { vectors: 2049, bar: 0 } })).toThrow(/2049 vectors/);
    expect(make({ capabilities: [{ id: 9, body: new Uint8Array(200) }] })).toThrow(/256 bytes/);
  });
});

describe("PciFunction state", () => {
  const offset = fc.oneof(
    fc.constantFrom(0x04, 0x10, 0x14, 0x18, 0x1c, 0x20, MSIX),
    fc.nat(63).map((n) => 4 * n),
  );
  const value = fc.oneof(
    fc.constantFrom(
      0,
      0xffff_ffff,
      0x0003,
      0x0403,
      0xc000_0000,
      0xc000_4000,
      0x6000,
      0x8000_0000,
      0xc000_0000,
    ),
    fc.nat(0xffff_ffff),
  );
  const op = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant("config" as const), offset, value }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("intx" as const), level: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("table" as const), word: fc.nat(11), value }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("msix" as const), vector: fc.nat(3) }) },
  );
  type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;
  const apply = ({ fn, machine, rd, wr }: ReturnType<typeof setup>, o: Op): unknown => {
    machine.msi.messages.length = 0;
    switch (o.kind) {
      case "config":
        wr(o.offset, o.value);
        break;
      case "intx":
        fn.setIntx(o.level);
        break;
      case "table":
        fn.writeBar(1, 4 * o.word, 4, o.value);
        break;
      case "msix":
        fn.msix?.signal(o.vector);
        break;
    }
    return [machine.gsi(17), rd(0x04), [...machine.msi.messages], fn.readBar(1, 0x800, 4)];
  };
  const where = ({ machine }: ReturnType<typeof setup>) =>
    [...machine.mmio.regions, ...machine.portBus.regions].map(({ name, base }) => `${name}@${base}`).sort();

  it("restores to a function that answers every later access alike", () => {
    fc.assert(
      fc.property(fc.array(op), fc.array(op), (before, after) => {
        const a = setup();
        for (const o of before) apply(a, o);
        fc.pre(!a.fn.hasConflict);
        const b = setup();
        b.fn.restore(JSON.parse(JSON.stringify(a.fn.save())) as PciFunctionStateV1);
        expect([b.machine.msi.messages, b.machine.gsi(17), b.machine.lines[0]?.line.edges]).toEqual([
          [],
          a.machine.gsi(17),
          0,
        ]);
        for (const o of after) {
          expect(apply(b, o)).toEqual(apply(a, o));
          if (!a.fn.hasConflict && !b.fn.hasConflict) expect(where(b)).toEqual(where(a));
        }
      }),
      { numRuns: 300 },
    );
  });

  it("resets to power-on from any state", () => {
    fc.assert(
      fc.property(fc.array(op), (ops) => {
        const a = setup();
        for (const o of ops) apply(a, o);
        a.fn.reset();
        expect([a.fn.save(), where(a), a.machine.gsi(17)]).toEqual([setup().fn.save(), [], false]);
      }),
      { numRuns: 300 },
    );
  });

  it("refuses the state of another kind of function", () => {
    const a = setup();
    const b = setup({ deviceId: 0x1041 });
    expect(() => {
      b.fn.restore(a.fn.save());
    }).toThrow(/disk: cannot restore: pci: config word 0x2 is 0x1042, expected 0x1041/);
    const c = setup({ msix: { vectors: 8, bar: 1 } });
    expect(() => {
      c.fn.restore(a.fn.save());
    }).toThrow(/3 vectors, expected 8/);
  });
});
