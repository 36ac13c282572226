import { type ConfigSchema, definePlugin, type DevicePlugin } from "@northbridge/sdk";
import * as v from "valibot";
import { topology } from "../pc-1/topology.ts";
import { AcpiPm } from "./acpi-pm.ts";
import { Offset, PORT_COUNT, RESET, S5_SLEEP_TYPE, Smi } from "./spec.ts";

export interface AcpiPmConfig {
  /** First port of the block, 64 ports. @defaultValue 0x600 */
  readonly base?: number | undefined;
  /** System control interrupt. @defaultValue 9 */
  readonly sciGsi?: number | undefined;
}

const Config: ConfigSchema<AcpiPmConfig, { readonly base: number; readonly sciGsi: number }> = v.strictObject(
  {
    base: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffc0)), topology.pm.base),
    sciGsi: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(23)), topology.pm.sciGsi),
  },
);

/** ACPI power management. The reset register it describes, port 0xCF9, is the PCI host bridge's. */
export const acpiPm: DevicePlugin<AcpiPmConfig> = definePlugin({
  name: "@northbridge/devices-legacy/acpiPm",
  config: Config,
  setup(ctx, { base, sciGsi }) {
    const device = new AcpiPm({ clock: ctx.clock, sci: ctx.irq(sciGsi), power: ctx.power });
    ctx.mapPorts({ base, length: PORT_COUNT }, device);
    ctx.mapPorts({ name: `${ctx.id}.smi`, base: Smi.PORT, length: 1, widest: 1 }, device.smiCommand);
    ctx.describe({
      kind: "acpiPm",
      pm1EventPort: base + Offset.PM1_STATUS,
      pm1ControlPort: base + Offset.PM1_CONTROL,
      pmTimerPort: base + Offset.TIMER,
      gpe0Port: base + Offset.GPE0_STATUS,
      sciGsi,
      smiCommandPort: Smi.PORT,
      resetPort: RESET.PORT,
      resetValue: RESET.VALUE,
      s5SleepType: S5_SLEEP_TYPE,
    });
    return device;
  },
});
