import { definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { type NoConfig, NoConfigSchema } from "../no-config.ts";
import { Rtc } from "./rtc.ts";
import { Port } from "./spec.ts";

const IRQ = 8;

/** The real-time clock at ports 0x70 and 0x71 on IRQ 8, set to UTC. */
export const rtc: DevicePlugin<NoConfig> = definePlugin({
  name: "@northbridge/devices-legacy/rtc",
  config: NoConfigSchema,
  setup(ctx) {
    const device = new Rtc({ clock: ctx.clock, irq: ctx.irq(IRQ) });
    ctx.mapPorts({ base: Port.BASE, length: Port.COUNT, widest: 1 }, device);
    ctx.describe({
      kind: "acpiDevice",
      name: "RTC_",
      hid: "PNP0B00",
      uid: 0,
      ports: [{ base: Port.BASE, length: Port.COUNT }],
      irqs: [{ gsi: IRQ, level: false, activeLow: false, shared: false }],
    });
    return device;
  },
});
