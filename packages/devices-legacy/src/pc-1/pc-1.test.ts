import { Console, type MachineConfig } from "@northbridge/sdk";
import { FakeCharBackend, FakeClock, FakeMachine } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { serial } from "../uart16550/plugin.ts";
import { pc1 } from "./pc-1.ts";
import { topology } from "./topology.ts";

async function machineOf(config: MachineConfig) {
  const machine = new FakeMachine().provide(Console, new FakeCharBackend());
  for (const entry of pc1.devices(config)) await machine.add(entry);
  return machine;
}
const empty: MachineConfig = { memory: { mib: 128 } };

/** A guest must never see its hardware change under it: if this fails, the change is `pc-2`. */
describe("pc-1, held still", () => {
  it("has these devices, in this order", () => {
    expect(pc1.devices(empty).map(({ id, spec }) => [id, spec.name])).toEqual([
      ["board", "@northbridge/devices-legacy/pc1Board"],
      ["pit", "@northbridge/devices-legacy/pit"],
      ["rtc", "@northbridge/devices-legacy/rtc"],
      ["i8042", "@northbridge/devices-legacy/i8042"],
      ["acpiPm", "@northbridge/devices-legacy/acpiPm"],
      ["pci", "@northbridge/devices-legacy/pciHost"],
      ["pvpanic", "@northbridge/devices-legacy/pvpanic"],
      ["com1", "@northbridge/devices-legacy/serial"],
    ]);
  });

  it("has these ports and addresses", async () => {
    const machine = await machineOf(empty);
    const regions = (bus: typeof machine.mmio) =>
      bus.regions
        .map(({ name, base, length }) => `${base.toString(16)}+${length.toString(16)} ${name}`)
        .sort();
    expect(regions(machine.portBus)).toEqual([
      "3f8+8 com1",
      "40+4 pit",
      "505+1 pvpanic",
      "60+1 i8042",
      "600+40 acpiPm",
      "61+1 pit.portB",
      "64+1 i8042",
      "70+2 rtc",
      "92+1 i8042",
      "b2+1 acpiPm.smi",
      "cf8+8 pci",
    ]);
    expect(regions(machine.mmio)).toEqual(["e0000000+10000000 pci.ecam"]);
  });

  it("has these interrupts", async () => {
    const machine = await machineOf(empty);
    expect(machine.lines.map(({ id, gsi }) => `${id} ${gsi}`)).toEqual([
      "pit 0",
      "rtc 8",
      "i8042 1",
      "acpiPm 9",
      "com1 4",
    ]);
  });

  it("tells the firmware this", async () => {
    const machine = await machineOf(empty);
    expect(machine.firmware).toEqual([
      { kind: "ioapic", id: 0, gpa: 0xfec0_0000, gsiBase: 0 },
      { kind: "irqOverride", isaIrq: 0, gsi: 2, activeLow: false, level: false },
      { kind: "irqOverride", isaIrq: 9, gsi: 9, activeLow: false, level: true },
      { kind: "bootArchitecture", pcat: true, legacyDevices: true, i8042: true },
      {
        kind: "acpiDevice",
        name: "RTC_",
        hid: "PNP0B00",
        uid: 0,
        ports: [{ base: 0x70, length: 2 }],
        irqs: [{ gsi: 8, level: false, activeLow: false, shared: false }],
      },
      {
        kind: "acpiDevice",
        name: "KBD_",
        hid: "PNP0303",
        uid: 0,
        ports: [
          { base: 0x60, length: 1 },
          { base: 0x64, length: 1 },
        ],
        irqs: [{ gsi: 1, level: false, activeLow: false, shared: false }],
      },
      {
        kind: "acpiPm",
        pm1EventPort: 0x600,
        pm1ControlPort: 0x604,
        pmTimerPort: 0x608,
        gpe0Port: 0x620,
        sciGsi: 9,
        smiCommandPort: 0xb2,
        resetPort: 0xcf9,
        resetValue: 0x06,
        s5SleepType: 5,
      },
      {
        kind: "pciRoot",
        ecamGpa: 0xe000_0000,
        busCount: 256,
        mmio32: { gpa: 0xc000_0000, length: 0x2000_0000 },
        io: { base: 0x6000, length: 0xa000 },
        intxGsiBase: 16,
        intxGsiCount: 8,
      },
      { kind: "acpiDevice", name: "PEVT", hid: "QEMU0001", uid: 0, ports: [{ base: 0x505, length: 1 }] },
      {
        kind: "acpiDevice",
        name: "COM1",
        hid: "PNP0501",
        uid: 0,
        ports: [{ base: 0x3f8, length: 8 }],
        irqs: [{ gsi: 4, level: false, activeLow: false, shared: false }],
      },
    ]);
  });

  it("has nothing overlapping below 4 GiB", () => {
    const windows = [
      [0, 0xc000_0000], // RAM at most
      [topology.mmio32.gpa, topology.mmio32.length],
      [topology.ecam.gpa, topology.ecam.busCount * 0x10_0000],
      [topology.ioapic.gpa, 0x1000],
      [topology.lapicGpa, 0x1000],
    ] as const;
    let end = 0;
    for (const [base, length] of windows) {
      expect(base).toBeGreaterThanOrEqual(end);
      end = base + length;
    }
    expect(end).toBeLessThanOrEqual(2 ** 32);
  });
});

describe("pc-1 with a com1 of the config's own", () => {
  it.each([
    ["an entry", serial({ at: "com1" }, { id: "tty" })],
    ["an entry by default", serial()],
    ["a reference", { plugin: "serial", at: "com1" }],
    ["a full reference", { plugin: "@northbridge/devices-legacy/serial" }],
  ])("adds none beside %s", (_what, device) => {
    const ids = pc1.devices({ ...empty, devices: [false, device] }).map(({ id }) => id);
    expect(ids).not.toContain("com1");
  });

  it.each([
    ["a com2", serial({ at: "com2" })],
    ["another device", { plugin: "debugExit" }],
  ])("adds one beside %s", (_what, device) => {
    expect(pc1.devices({ ...empty, devices: [device, null] }).map(({ id }) => id)).toContain("com1");
  });
});

describe("pc-1, for long", () => {
  it("is saved and restored after 200 days, when nanoseconds are beyond 2^53", async () => {
    const machine = await machineOf(empty);
    machine.ports.out(0x43, 0x34);
    machine.ports.out(0x40, 0x10);
    machine.ports.out(0x40, 0x27);
    machine.clock.jump(200 * 86_400e9 + 2);
    machine.ports.out(0x70, 0x0a);
    machine.ports.in(0x71);
    const saved = [...machine.devices].map(([id, device]) => [id, JSON.stringify(device.save?.())] as const);
    const other = new FakeMachine({ clock: new FakeClock({ nowNs: machine.clock.nowNs() }) });
    other.provide(Console, new FakeCharBackend());
    for (const entry of pc1.devices(empty)) await other.add(entry);
    for (const [id, state] of saved) {
      const device = other.devices.get(id);
      if (state === undefined) continue;
      device?.restore?.(JSON.parse(state));
      expect(JSON.stringify(device?.save?.())).toBe(state);
    }
    expect(saved.find(([id]) => id === "rtc")?.[1]).toContain("17280000000000002");
  });
});
