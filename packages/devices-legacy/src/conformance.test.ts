import { deviceConformance, type DeviceUnderTest } from "@northbridge/sdk/fuzz";
import { type CharBackend, Console } from "@northbridge/sdk";
import { FakeCharBackend } from "@northbridge/sdk/testing";
import { describe, it } from "vitest";
import * as legacy from "./index.ts";

const devices: Readonly<Record<string, DeviceUnderTest>> = {
  // An ISA interrupt is an edge: enabling and clearing one in a wide access is two accesses of the port.
  serial: { create: () => legacy.serial({ at: "com1" }), pulses: true },
  pit: { create: () => legacy.pit() },
  i8042: { create: () => legacy.i8042() },
  acpiPm: { create: () => legacy.acpiPm() },
  pciHost: { create: () => legacy.pciHost() },
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
