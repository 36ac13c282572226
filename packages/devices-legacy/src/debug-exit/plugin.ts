import { type ConfigSchema, definePlugin, type DevicePlugin } from "@northbridge/sdk";
import * as v from "valibot";
import { DebugExit } from "./debug-exit.ts";

export interface DebugExitConfig {
  /** @defaultValue 0xf4 */
  readonly port?: number | undefined;
}

const PORT_COUNT = 4;

const Config: ConfigSchema<DebugExitConfig, { readonly port: number }> = v.strictObject({
  port: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0x1_0000 - PORT_COUNT)), 0xf4),
});

/** Debug exit: an 8-, 16- or 32-bit write of 0 powers off, of anything else panics with the number. */
export const debugExit: DevicePlugin<DebugExitConfig> = definePlugin({
  name: "@northbridge/devices-legacy/debugExit",
  config: Config,
  setup(ctx, { port }) {
    ctx.mapPorts({ base: port, length: PORT_COUNT }, new DebugExit({ power: ctx.power }));
    return {};
  },
});
