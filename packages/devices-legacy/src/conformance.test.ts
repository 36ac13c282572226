import { type CharBackend, Console } from "@northbridge/sdk";
import { deviceConformance } from "@northbridge/sdk/fuzz";
import { FakeCharBackend } from "@northbridge/sdk/testing";
import { describe, it } from "vitest";
import * as legacy from "./index.ts";

const devices = {
  serial: () => legacy.serial({ at: "com1" }),
  pit: () => legacy.pit(),
  rtc: () => legacy.rtc(),
  i8042: () => legacy.i8042(),
  acpiPm: () => legacy.acpiPm(),
};

for (const [name, create] of Object.entries(devices)) {
  describe(name, () => {
    deviceConformance(
      { describe, it },
      {
        create,
        prepare: (machine) => {
          machine.provide<CharBackend>(Console, new FakeCharBackend());
        },
      },
    );
  });
}
