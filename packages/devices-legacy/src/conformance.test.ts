import { deviceConformance, type DeviceUnderTest } from "@northbridge/sdk/fuzz";
import { type CharBackend, Console, definePlugin } from "@northbridge/sdk";
import { FakeCharBackend } from "@northbridge/sdk/testing";
import * as v from "valibot";
import { describe, it } from "vitest";
import * as legacy from "./index.ts";

/** The chips that a backend holds itself (docs/adr/0004), where a backend maps them. */
const interruptControllers = definePlugin({
  name: "test/interruptControllers",
  config: v.strictObject({}),
  setup(ctx) {
    const output = ctx.irq(0);
    const chips = new legacy.InterruptControllers({
      deliver: ({ vector, destination }) => {
        ctx.msi.signal(destination, vector);
      },
      picOutput: (level) => {
        output.set(level);
      },
    });
    const { pic, ioapic } = chips;
    ctx.mapPorts({ name: "master", base: 0x20, length: 2 }, pic.master);
    ctx.mapPorts({ name: "slave", base: 0xa0, length: 2 }, pic.slave);
    ctx.mapPorts({ name: "elcr", base: 0x4d0, length: 2 }, pic.elcr);
    ctx.mapMmio({ base: legacy.IOAPIC_PAGE * 4096, length: 4096 }, ioapic);
    // Their inputs, for the fuzzer to drive: a port for each GSI.
    ctx.mapPorts(
      { name: "inputs", base: 0x600, length: 24 },
      {
        read: () => 0,
        write: (gsi, _width, value) => {
          chips.setIrq(gsi, (value & 1) !== 0);
        },
      },
    );
    return {
      reset: () => {
        for (let gsi = 0; gsi < 24; gsi += 1) chips.setIrq(gsi, false);
        chips.reset();
      },
      save: () => chips.save(),
      restore: (state) => {
        chips.restore(state);
        output.adopt(pic.intr);
      },
    };
  },
});

const devices: Readonly<Record<string, DeviceUnderTest>> = {
  // An ISA interrupt is an edge: enabling and clearing one in a wide access is two accesses of the port.
  serial: { create: () => legacy.serial({ at: "com1" }), pulses: true },
  pit: { create: () => legacy.pit() },
  i8042: { create: () => legacy.i8042() },
  acpiPm: { create: () => legacy.acpiPm() },
  pciHost: { create: () => legacy.pciHost() },
  interruptControllers: { create: () => interruptControllers({}) },
  // These have no state to save.
  pvpanic: { create: () => legacy.pvpanic(), except: ["save and restore"] },
  debugConsole: { create: () => legacy.debugConsole(), except: ["save and restore"] },
  debugExit: { create: () => legacy.debugExit(), except: ["save and restore"] },
};

for (const [name, device] of Object.entries(devices)) {
  describe(name, () => {
    deviceConformance(
      { describe, it },
      {
        ...device,
        prepare: (machine) => {
          machine.provide<CharBackend>(Console, new FakeCharBackend());
        },
      },
    );
  });
}

describe("rtc", () => {
  // Time, RAM and modes are on a battery, and the RESET pin leaves them alone (MC146818 data sheet, RESET).
  deviceConformance({ describe, it }, { create: () => legacy.rtc(), except: ["reset"] });
});
