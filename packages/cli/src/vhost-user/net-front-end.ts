import { attachVirtio, defaultMac, netSpec, parseMac } from "@northbridge/devices-virtio";
import { type ConfigSchema, definePlugin, type DevicePlugin, NorthbridgeError } from "@northbridge/sdk";
import { type VirtioDevice, virtioSpec } from "@northbridge/sdk/virtio";
import type { SocketDeviceOptions } from "@northbridge/vhost-user";
import * as v from "valibot";
import { sayTo, sharedRam } from "./front-end-plugins.ts";
import { type CardConfig, cardOptions, OFFLOAD_FEATURES, QUEUE_SIZE, STATUS_END } from "./network-card.ts";
import { PairedCard } from "./paired-card.ts";

const { Config, Feature, LinkStatus } = netSpec;

/** Bytes of the configuration space as far as the number of pairs (virtio 1.3 §5.1.4). */
const PAIRS_END = Config.MAX_VIRTQUEUE_PAIRS + 2;

export interface VhostUserNetConfig extends CardConfig {
  /** The Unix socket at which the back end listens. */
  readonly path: string;
  /** Pairs of receive and transmit queues, 1–16. @defaultValue 1 */
  readonly queuePairs?: number | undefined;
}

const NetConfig: ConfigSchema<VhostUserNetConfig, VhostUserNetConfig & { readonly queuePairs: number }> =
  v.strictObject({
    ...cardOptions,
    path: v.pipe(v.string(), v.nonEmpty()),
    queuePairs: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(16)), 1),
  });

/**
 * A network card whose frames another program carries: a switch such as Open vSwitch with DPDK, or `northbridge
 * vhost-user net`. Address and cable are of this side: without a back end the guest sees the cable pulled. A control queue,
 * which back ends do not serve, only where there are several pairs of queues to choose from.
 */
export const vhostUserNet: DevicePlugin<VhostUserNetConfig> = definePlugin({
  name: "@northbridge/cli/vhostUserNet",
  config: NetConfig,
  async setup(ctx, { path, mac, slot, queuePairs }) {
    const ram = await sharedRam(ctx);
    const device = await vhostUserCard({
      socket: path,
      mac: (mac === undefined ? undefined : parseMac(mac)) ?? defaultMac(ctx.id),
      queuePairs,
      ram,
      say: sayTo(ctx),
    });
    ctx.onClose(() => {
      device.close();
    });
    return attachVirtio(ctx, device.card, { slot });
  },
});

/** The card of a machine with this memory, whose frames the back end at the socket carries. Throws `NB_HOST`. */
export async function vhostUserCard(
  options: Pick<SocketDeviceOptions, "socket" | "ram" | "say"> & {
    readonly mac: Uint8Array;
    readonly queuePairs: number;
  },
): Promise<{ readonly card: VirtioDevice; readonly close: () => void }> {
  const { socket, mac, queuePairs, ram, say } = options;
  const { ExternalDevice } = await import("@northbridge/vhost-user");
  const isPaired = queuePairs > 1;
  const config = new Uint8Array(isPaired ? PAIRS_END : STATUS_END);
  config.set(mac, Config.MAC);
  if (isPaired) new DataView(config.buffer).setUint16(Config.MAX_VIRTQUEUE_PAIRS, queuePairs, true);
  const rings = await ExternalDevice.connect({
    socket,
    deviceId: virtioSpec.DeviceId.NET,
    queues: new Array<number>(2 * queuePairs).fill(QUEUE_SIZE),
    config,
    ram,
    features: {
      theirs: [...OFFLOAD_FEATURES, Feature.MRG_RXBUF, ...(isPaired ? [Feature.MQ] : [])],
      ours: [Feature.MAC, Feature.STATUS, ...(isPaired ? [Feature.CTRL_VQ] : [])],
    },
    connected: (isConnected, space) => {
      space[Config.STATUS] = isConnected ? LinkStatus.LINK_UP : 0;
    },
    ...(say && { say }),
  });
  const close = (): void => {
    rings.close();
  };
  if (!isPaired) return { card: rings, close };
  if (rings.features.includes(Feature.MQ)) return { card: new PairedCard(rings), close };
  close();
  throw new NorthbridgeError("NB_HOST", `${socket}: expected the feature VIRTIO_NET_F_MQ, found none`);
}
