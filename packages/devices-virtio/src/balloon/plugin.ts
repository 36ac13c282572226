import { type ConfigSchema, definePlugin, type DevicePlugin, ReclaimPages } from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import { MAX_MIB } from "./spec.ts";
import { VirtioBalloon } from "./virtio-balloon.ts";

export interface VirtioBalloonConfig extends PlacementConfig {
  /** MiB the guest is asked to give up from the start. @defaultValue 0 */
  readonly mib?: number | undefined;
}

const Config: ConfigSchema<VirtioBalloonConfig, VirtioBalloonConfig & { readonly mib: number }> =
  v.strictObject({
    ...placement,
    mib: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_MIB)), 0),
  });

/** A virtio memory balloon. */
export const virtioBalloon: DevicePlugin<VirtioBalloonConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioBalloon",
  config: Config,
  setup: (ctx, { mib, ...place }) =>
    attach(
      ctx,
      new VirtioBalloon({ targetMib: mib, reclaim: ctx.find(ReclaimPages), clock: ctx.clock }),
      place,
    ),
});
