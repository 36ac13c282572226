import { attachVirtio, defaultMac, parseMac } from "@northbridge/devices-virtio";
import { type ConfigSchema, definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { virtioSpec } from "@northbridge/sdk/virtio";
import * as v from "valibot";
import { sharedRam } from "./front-end-plugins.ts";

const QUEUE_SIZE = 256;
/** Feature bits of network devices (virtio 1.3 §5.1.3). */
const Feature = {
  CSUM: 0,
  GUEST_CSUM: 1,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  MRG_RXBUF: 15,
  STATUS: 16,
} as const;
const { MAC, STATUS, ...data } = Feature;
/** struct virtio_net_config (§5.1.4), as far as its status. */
const Config = { STATUS: 6, LENGTH: 8 } as const;
const LINK_UP = 1;

export interface VhostUserNetConfig {
  /** The Unix socket at which the back end listens. */
  readonly path: string;
  /** `52:54:00:12:34:56`, a unicast address. @defaultValue made of the device's id */
  readonly mac?: string | undefined;
  /** Device number on the PCI bus, 1–31. @defaultValue the lowest free one */
  readonly slot?: number | undefined;
}

const NetConfig: ConfigSchema<VhostUserNetConfig, VhostUserNetConfig> = v.strictObject({
  path: v.pipe(v.string(), v.nonEmpty()),
  mac: v.optional(
    v.pipe(
      v.string(),
      v.check(
        (text) => parseMac(text) !== undefined,
        "expected a unicast MAC address such as 52:54:00:12:34:56",
      ),
    ),
  ),
  slot: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(31))),
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
    const config = new Uint8Array(Config.LENGTH);
    config.set((mac === undefined ? undefined : parseMac(mac)) ?? defaultMac(ctx.id));
    const device = await ExternalDevice.connect({
      socket: path,
      deviceId: virtioSpec.DeviceId.NET,
      queues: [QUEUE_SIZE, QUEUE_SIZE],
      config,
      ram,
      features: { theirs: Object.values(data), ours: [MAC, STATUS] },
      connected: (isConnected, space) => {
        space[Config.STATUS] = isConnected ? LINK_UP : 0;
      },
    });
    ctx.onClose(() => {
      device.close();
    });
    return attachVirtio(ctx, device, { slot });
  },
});
