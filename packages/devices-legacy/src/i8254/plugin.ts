import { definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { type NoConfig, NoConfigSchema } from "../no-config.ts";
import { I8254 } from "./i8254.ts";

/** The interval timer at ports 0x40–0x43 on IRQ 0, and port 0x61. */
export const pit: DevicePlugin<NoConfig> = definePlugin({
  name: "@northbridge/devices-legacy/pit",
  config: NoConfigSchema,
  setup(ctx) {
    const device = new I8254({ clock: ctx.clock, irq: ctx.irq(0) });
    ctx.mapPorts({ base: 0x40, length: I8254.PORT_COUNT, widest: 1 }, device);
    ctx.mapPorts({ name: `${ctx.id}.portB`, base: 0x61, length: 1, widest: 1 }, device.portB);
    return device;
  },
});
