import { type ConfigSchema, definePlugin, type DevicePlugin, HostEnds } from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import { hostEnd, type HostEndConfig } from "../host-end.ts";
import { FIRST_CID, LAST_CID } from "./spec.ts";
import { VirtioVsock } from "./virtio-vsock.ts";

export interface VirtioVsockConfig extends PlacementConfig {
  /** The guest's context ID, unique on the host. @defaultValue 3 */
  readonly cid?: number | undefined;
  /** `{ kind: unix, path: vsock.sock }`. */
  readonly to: HostEndConfig;
}

const Config: ConfigSchema<VirtioVsockConfig, VirtioVsockConfig & { readonly cid: number }> = v.strictObject({
  ...placement,
  cid: v.optional(v.pipe(v.number(), v.integer(), v.minValue(FIRST_CID), v.maxValue(LAST_CID)), FIRST_CID),
  to: hostEnd,
});

/** A virtio socket device: streams between the guest and the host. */
export const virtioVsock: DevicePlugin<VirtioVsockConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioVsock",
  config: Config,
  requires: [HostEnds],
  ends: { to: "vsock" },
  async setup(ctx, { cid, to, ...place }) {
    const backend = await ctx.get(HostEnds).vsock(to);
    ctx.onClose(() => backend.close());
    return attach(ctx, new VirtioVsock({ backend, cid }), place);
  },
});
