import { type ConfigSchema, Console, definePlugin, type DevicePlugin, Log } from "@northbridge/sdk";
import * as v from "valibot";
import { DebugConsole } from "./debug-console.ts";

export interface DebugConsoleConfig {
  /** @defaultValue 0xe9 */
  readonly port?: number | undefined;
  /** Where the characters go. @defaultValue `"console"` */
  readonly to?: "console" | "log" | undefined;
}

const Config: ConfigSchema<DebugConsoleConfig, { readonly port: number; readonly to: "console" | "log" }> =
  v.strictObject({
    port: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff)), 0xe9),
    to: v.optional(v.picklist(["console", "log"]), "console"),
  });

/** One output port for characters: the smallest console there is. */
export const debugConsole: DevicePlugin<DebugConsoleConfig> = definePlugin({
  name: "@northbridge/devices-legacy/debugConsole",
  config: Config,
  setup(ctx, { port, to }) {
    const out = to === "log" ? ctx.get(Log) : ctx.get(Console);
    ctx.mapPorts({ base: port, length: 1, widest: 1 }, new DebugConsole({ out }));
    return {};
  },
});
