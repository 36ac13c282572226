import { type ConfigSchema, definePlugin, type DevicePlugin, HostEnds } from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import { hostEnd, type HostEndConfig } from "../host-end.ts";
import { rateLimits } from "../rate-limiter.ts";
import { defaultMac, parseMac } from "./mac.ts";
import { MAX_PAIRS, type NetLimits, VirtioNet } from "./virtio-net.ts";

export interface VirtioNetConfig extends PlacementConfig {
  /** `{ kind: loopback }`, or any other network back end. */
  readonly link: HostEndConfig;
  /** `52:54:00:12:34:56`, a unicast address. @defaultValue made of the device's id: machines that meet on a network need one each */
  readonly mac?: string | undefined;
  /** Pairs of receive and transmit queues. @defaultValue 1 */
  readonly queuePairs?: number | undefined;
  /** What the guest shows as the link's speed. @defaultValue unknown */
  readonly speedMbps?: number | undefined;
  /** Whether the guest may leave checksums and segmentation to the device. @defaultValue true */
  readonly offloads?: boolean | undefined;
  /** How much may pass in each direction. @defaultValue any amount */
  readonly limits?: NetLimits | undefined;
}

const Config: ConfigSchema<VirtioNetConfig, VirtioNetConfig> = v.strictObject({
  ...placement,
  link: hostEnd,
  mac: v.optional(
    v.pipe(
      v.string(),
      v.check(
        (text) => parseMac(text) !== undefined,
        "expected a unicast MAC address such as 52:54:00:12:34:56",
      ),
    ),
  ),
  queuePairs: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAX_PAIRS))),
  speedMbps: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(0x7fff_ffff))),
  offloads: v.optional(v.boolean()),
  limits: v.optional(v.strictObject({ receive: v.optional(rateLimits), transmit: v.optional(rateLimits) })),
});

/** A virtio network card. */
export const virtioNet: DevicePlugin<VirtioNetConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioNet",
  config: Config,
  requires: [HostEnds],
  ends: { link: "net" },
  async setup(ctx, { link, mac, queuePairs, speedMbps, offloads, limits, ...place }) {
    const backend = await ctx.get(HostEnds).net(link);
    ctx.onClose(() => backend.close());
    const address = (mac === undefined ? undefined : parseMac(mac)) ?? defaultMac(ctx.id);
    const device = new VirtioNet({
      backend,
      mac: address,
      pairs: queuePairs,
      speedMbps,
      offloads,
      limits: limits && { rates: limits, clock: ctx.clock },
    });
    return attach(ctx, device, place);
  },
});
