import { type ConfigSchema, definePlugin, type DevicePlugin, HostEnds } from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import { hostEnd, type HostEndConfig } from "../host-end.ts";
import { VirtioConsole } from "./virtio-console.ts";

export interface VirtioConsoleConfig extends PlacementConfig {
  /** `{ kind: console }` for the machine's own, which nobody else may use then, or a character back end. @defaultValue ring */
  readonly to?: HostEndConfig | undefined;
}

const Config: ConfigSchema<VirtioConsoleConfig, VirtioConsoleConfig & { readonly to: HostEndConfig }> =
  v.strictObject({ ...placement, to: v.optional(hostEnd, { kind: "ring" }) });

/** A virtio console: `hvc0` in the guest. */
export const virtioConsole: DevicePlugin<VirtioConsoleConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioConsole",
  config: Config,
  requires: [HostEnds],
  ends: { to: "char" },
  async setup(ctx, { to, ...place }) {
    const backend = await ctx.get(HostEnds).char(to);
    ctx.onClose(() => backend.close?.());
    return attach(ctx, new VirtioConsole({ backend }), place);
  },
});
