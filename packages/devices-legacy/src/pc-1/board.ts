import { definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { type NoConfig, NoConfigSchema } from "../no-config.ts";
import { topology } from "./topology.ts";

/**
 * What `pc-1` is beyond its devices: tells the firmware tables of the interrupt controllers, which the backend holds,
 * and of the board's wiring.
 */
export const pc1Board: DevicePlugin<NoConfig> = definePlugin({
  name: "@northbridge/devices-legacy/pc1Board",
  config: NoConfigSchema,
  setup(ctx) {
    ctx.describe({ kind: "ioapic", ...topology.ioapic });
    for (const override of topology.irqOverrides) ctx.describe({ kind: "irqOverride", ...override });
    ctx.describe({ kind: "bootArchitecture", pcat: true, legacyDevices: true, i8042: true });
    return {};
  },
});
