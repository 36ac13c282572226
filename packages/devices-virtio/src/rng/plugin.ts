import { type ConfigSchema, definePlugin, type DevicePlugin, Entropy } from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import { rateLimits, type RateLimits } from "../rate-limiter.ts";
import { VirtioRng } from "./virtio-rng.ts";

export interface VirtioRngConfig extends PlacementConfig {
  /** How much the guest may ask of the host's source. @defaultValue any amount */
  readonly limits?: RateLimits | undefined;
}

const Config: ConfigSchema<VirtioRngConfig, VirtioRngConfig> = v.strictObject({
  ...placement,
  limits: v.optional(rateLimits),
});

/** A virtio source of random numbers, fed by the host's. */
export const virtioRng: DevicePlugin<VirtioRngConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioRng",
  config: Config,
  requires: [Entropy],
  setup: (ctx, { limits, ...place }) => {
    const device = new VirtioRng({
      entropy: ctx.get(Entropy),
      ...(limits && { limits: { rates: limits, clock: ctx.clock } }),
    });
    return attach(ctx, device, place);
  },
});
