import { type ConfigSchema, definePlugin, type DevicePlugin, Entropy } from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import { VirtioRng } from "./virtio-rng.ts";

const Config: ConfigSchema<PlacementConfig, PlacementConfig> = v.strictObject(placement);

/** A virtio source of random numbers, fed by the host's. */
export const virtioRng: DevicePlugin<PlacementConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioRng",
  config: Config,
  requires: [Entropy],
  setup: (ctx, place) => attach(ctx, new VirtioRng({ entropy: ctx.get(Entropy) }), place),
});
