import { PciBus, PciFunction } from "@northbridge/sdk/pci";
import { FakeMachine } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PciHost } from "./pci-host.ts";
import { type PciHostStateV1 } from "./pci-host.ts";
import { pciHost } from "./plugin.ts";

const ECAM = 0xe000_0000;
const disk = { vendorId: 0x1af4, deviceId: 0x1042, classCode: 0x01_00_00, interruptPin: 1 } as const;
const bar = { index: 0, kind: "memory32", length: 0x1000, regions: [] } as const;

async function setup(devices = 1) {
  const machine = new FakeMachine();
  const host = (await machine.add(pciHost({}, { id: "pci" }))) as PciHost;
  const functions = Array.from({ length: devices }, (_, i) => {
    const fn = new PciFunction(machine.context(`disk${i}`), { ...disk, bars: [bar] });
    machine.get(PciBus).attach(fn);
    return fn;
  });
  const { ports, mmio } = machine;
  const conf1 = (devfn: number, reg: number) => {
    ports.out(0xcf8, (0x8000_0000 | (devfn << 8) | reg) >>> 0, 4);
    return ports.in(0xcfc, 4);
  };
  return { machine, host, functions, ports, mmio, conf1 };
}

describe("PciHost", () => {
  it("passes Linux's check of configuration mechanism 1", async () => {
    const { ports } = await setup();
    ports.out(0xcfb, 0x01, 1);
    const before = ports.in(0xcf8, 4);
    ports.out(0xcf8, 0x8000_0000, 4);
    expect(ports.in(0xcf8, 4)).toBe(0x8000_0000);
    ports.out(0xcf8, before, 4);
    ports.out(0xcf8, 0x8000_0008, 4);
    expect(ports.in(0xcfe, 2)).toBe(0x0600); // a host bridge, by its class
  });

  it("shows the same functions by ports and by ECAM", async () => {
    const { mmio, conf1, ports } = await setup(2);
    expect([conf1(0, 0), conf1(8, 0), conf1(16, 0)]).toEqual([0x0008_1b36, 0x1042_1af4, 0x1042_1af4]);
    expect([mmio.read(ECAM, 4), mmio.read(ECAM + 0x8000, 4)]).toEqual([0x0008_1b36, 0x1042_1af4]);
    mmio.write(ECAM + 0x803c, 1, 0x2a);
    conf1(8, 0x3c);
    expect(ports.in(0xcfc, 1)).toBe(0x2a);
    expect(mmio.read(ECAM + 0x8002, 2)).toBe(0x1042);
  });

  it("answers all-ones for absent functions and buses, and while not enabled", async () => {
    const { mmio, conf1, ports } = await setup();
    expect(conf1(0x80, 0)).toBe(0xffff_ffff);
    expect([
      mmio.read(ECAM + 0x1000, 4),
      mmio.read(ECAM + 0x10_0000, 4),
      mmio.read(ECAM + 0xfff_f000, 2),
    ]).toEqual([0xffff_ffff, 0xffff_ffff, 0xffff]);
    ports.out(0xcf8, 0x8001_0000, 4);
    expect(ports.in(0xcfc, 4)).toBe(0xffff_ffff);
    ports.out(0xcf8, 0, 4);
    expect(ports.in(0xcfc, 4)).toBe(0xffff_ffff);
  });

  it("takes CONFIG_ADDRESS as a doubleword only", async () => {
    const { ports } = await setup();
    ports.out(0xcf8, 0x8000_0840, 4);
    ports.out(0xcf8, 0x55, 1);
    expect(ports.in(0xcf8, 4)).toBe(0x8000_0840);
  });

  it("resets on the rising RST_CPU of port 0xCF9 only", async () => {
    const { machine, ports } = await setup();
    ports.out(0xcf9, 0x02);
    expect(machine.power.requests).toEqual([]);
    ports.out(0xcf9, 0x06);
    ports.out(0xcf9, 0x06);
    expect(machine.power.requests).toEqual(["reset"]);
    expect(ports.in(0xcf9)).toBe(0x06);
  });

  it("swizzles INTx by device and pin", async () => {
    const { machine, functions } = await setup(9);
    for (const fn of functions) fn.setIntx(true);
    expect(machine.lines.filter((entry) => entry.id.startsWith("disk")).map((entry) => entry.gsi)).toEqual([
      17, 18, 19, 20, 21, 22, 23, 16, 17,
    ]);
    const pinB = new PciFunction(machine.context("b"), { ...disk, interruptPin: 2 });
    machine.get(PciBus).attach(pinB, { device: 20 });
    expect(machine.lines.at(-1)?.gsi).toBe(16 + ((20 + 1) % 8));
  });

  it("refuses a slot that is taken or does not exist", async () => {
    const { machine, host } = await setup();
    const fn = () => new PciFunction(machine.context("late"), disk);
    expect(() => host.attach(fn(), { device: 1 })).toThrow(/late: PCI slot 01\.0 is taken by disk0/);
    expect(() => host.attach(fn(), { device: 32 })).toThrow(/slot 20\.0/);
    for (let device = 2; device < 32; device++) host.attach(fn());
    expect(() => host.attach(fn())).toThrow(/full/);
  });

  it("lets two functions swap their BARs", async () => {
    const { mmio, functions } = await setup(2);
    const write = (device: number, value: number) => {
      mmio.write(ECAM + 0x8000 * device + 0x10, 4, value);
    };
    for (const device of [1, 2]) mmio.write(ECAM + 0x8000 * device + 4, 2, 2);
    write(1, 0xc000_0000);
    write(2, 0xc000_1000);
    write(1, 0xc000_1000); // stacked on the other for a moment
    expect(functions.map((fn) => fn.barBase(0))).toEqual([undefined, 0xc000_1000]);
    write(2, 0xc000_0000);
    expect(functions.map((fn) => fn.barBase(0))).toEqual([0xc000_1000, 0xc000_0000]);
  });

  it("describes itself to the firmware", async () => {
    const { machine } = await setup();
    expect(machine.firmware).toMatchObject([
      { kind: "pciRoot", ecamGpa: ECAM, busCount: 256, intxGsiBase: 16, intxGsiCount: 8 },
    ]);
  });

  it("saves and restores every configuration space, and refuses another bus", async () => {
    const register = fc.constantFrom(0x04, 0x10, 0x3c);
    const op = fc.record({
      device: fc.nat(2),
      register,
      value: fc.oneof(fc.constantFrom(2, 0xc000_0000, 0xd000_0000), fc.nat(0xffff_ffff)),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(op), fc.array(op), async (before, after) => {
        const a = await setup(2);
        const b = await setup(2);
        const apply = ({ mmio }: typeof a, o: { device: number; register: number; value: number }) => {
          mmio.write(ECAM + 0x8000 * o.device + o.register, 4, o.value);
        };
        for (const o of before) apply(a, o);
        fc.pre(!a.functions.some((fn) => fn.hasConflict));
        b.host.restore(JSON.parse(JSON.stringify(a.host.save())) as PciHostStateV1);
        expect(b.host.save()).toEqual(a.host.save());
        for (const o of after) {
          apply(a, o);
          apply(b, o);
          expect(b.functions.map((fn) => fn.barBase(0))).toEqual(a.functions.map((fn) => fn.barBase(0)));
        }
        a.host.reset();
        expect(a.host.save()).toEqual((await setup(2)).host.save());
      }),
      { numRuns: 60 },
    );
    const two = await setup(2);
    const one = await setup(1);
    expect(() => {
      one.host.restore(two.host.save());
    }).toThrow(/slot 02\.0 holds nothing, expected disk1/);
    expect(() => {
      two.host.restore(one.host.save());
    }).toThrow(/2 functions saved, expected 3/);
  });

  it.each([
    [{ intx: { gsiBase: 20, gsiCount: 8 } }, "expected GSIs up to 23"],
    [{ io: { base: 70_000, length: 16 } }, "expected ports up to 0xffff"],
    [{ io: { base: 0xfff0, length: 17 } }, "expected ports up to 0xffff"],
    [{ mmio32: { gpa: 0, length: 0 } }, "Expected >=1 but received 0"],
    [{ mmio32: { gpa: 0xffff_f000, length: 0x1001 } }, "expected a window that ends below 4 GiB"],
  ])("refuses windows and interrupts that are none: %j", async (config, says) => {
    await expect(new FakeMachine().add(pciHost(config))).rejects.toThrow(says);
  });
});
