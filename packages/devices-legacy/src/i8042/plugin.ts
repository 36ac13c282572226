import { definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { type NoConfig, NoConfigSchema } from "../no-config.ts";
import { I8042 } from "./i8042.ts";
import { Port } from "./spec.ts";

/** The keyboard controller at ports 0x60 and 0x64 on IRQ 1, and system control port A at 0x92. */
export const i8042: DevicePlugin<NoConfig> = definePlugin({
  name: "@northbridge/devices-legacy/i8042",
  config: NoConfigSchema,
  setup(ctx) {
    const device = new I8042({ irq: ctx.irq(1), power: ctx.power });
    const ports = [
      [Port.DATA, device.data],
      [Port.COMMAND, device.command],
      [Port.SYSTEM_CONTROL_A, device.systemControlA],
    ] as const;
    for (const [base, handler] of ports) ctx.mapPorts({ base, length: 1, widest: 1 }, handler);
    ctx.describe({
      kind: "acpiDevice",
      name: "KBD_",
      hid: "PNP0303",
      uid: 0,
      ports: [
        { base: Port.DATA, length: 1 },
        { base: Port.COMMAND, length: 1 },
      ],
      irqs: [{ gsi: 1, level: false, activeLow: false, shared: false }],
    });
    return device;
  },
});
