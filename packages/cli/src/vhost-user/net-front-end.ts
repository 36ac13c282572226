import { attachVirtio, defaultMac, netSpec, parseMac } from "@northbridge/devices-virtio";
import { type ConfigSchema, definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { virtioSpec } from "@northbridge/sdk/virtio";
import * as v from "valibot";
import { sayTo, sharedRam } from "./front-end-plugins.ts";
import { type CardConfig, cardOptions, OFFLOAD_FEATURES, QUEUE_SIZE, STATUS_END } from "./network-card.ts";

const { Config, Feature, LinkStatus } = netSpec;

export interface VhostUserNetConfig extends CardConfig {
  /** The Unix socket at which the back end listens. */
  readonly path: string;
}

const NetConfig: ConfigSchema<VhostUserNetConfig, VhostUserNetConfig> = v.strictObject({
  ...cardOptions,
  path: v.pipe(v.string(), v.nonEmpty()),
});

/**
 * A network card whose frames another program carries: a switch such as Open vSwitch with DPDK, or `northbridge
 * vhost-user net`. Address and cable are of this side: without a back end the guest sees the cable pulled. One pair of
 * queues; no control queue, which back ends do not serve.
 */
export const vhostUserNet: DevicePlugin<VhostUserNetConfig> = definePlugin({
  name: "@northbridge/cli/vhostUserNet",
  config: NetConfig,
  async setup(ctx, { path, mac, slot }) {
    const ram = await sharedRam(ctx);
    const { ExternalDevice } = await import("@northbridge/vhost-user");
    const config = new Uint8Array(STATUS_END);
    config.set((mac === undefined ? undefined : parseMac(mac)) ?? defaultMac(ctx.id));
    const device = await ExternalDevice.connect({
      socket: path,
      deviceId: virtioSpec.DeviceId.NET,
      queues: [QUEUE_SIZE, QUEUE_SIZE],
      config,
      ram,
      features: { theirs: [...OFFLOAD_FEATURES, Feature.MRG_RXBUF], ours: [Feature.MAC, Feature.STATUS] },
      connected: (isConnected, space) => {
        space[Config.STATUS] = isConnected ? LinkStatus.LINK_UP : 0;
      },
      say: sayTo(ctx),
    });
    ctx.onClose(() => {
      device.close();
    });
    return attachVirtio(ctx, device, { slot });
  },
});
