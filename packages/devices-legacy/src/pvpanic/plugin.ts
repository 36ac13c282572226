import { definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { type NoConfig, NoConfigSchema } from "../no-config.ts";
import { Pvpanic } from "./pvpanic.ts";
import { PORT } from "./spec.ts";

/** The panic port at 0x505, found by the guest through ACPI (`QEMU0001`). */
export const pvpanic: DevicePlugin<NoConfig> = definePlugin({
  name: "@northbridge/devices-legacy/pvpanic",
  config: NoConfigSchema,
  setup(ctx) {
    ctx.mapPorts({ base: PORT, length: 1, widest: 1 }, new Pvpanic({ power: ctx.power }));
    ctx.describe({
      kind: "acpiDevice",
      name: "PEVT",
      hid: "QEMU0001",
      uid: 0,
      ports: [{ base: PORT, length: 1 }],
    });
    return {};
  },
});
