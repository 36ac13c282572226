import { attachVirtio, defaultMac, netSpec, parseMac, VirtioNet } from "@northbridge/devices-virtio";
import { addressOf } from "@northbridge/linux";
import {
  checkedBy,
  checkTapOptions,
  Unplugged,
  type VhostNetOptions,
  VhostNetServer,
} from "@northbridge/net-tap";
import {
  type ConfigSchema,
  definePlugin,
  type DeviceContext,
  type DevicePlugin,
  type MemorySlot,
  NorthbridgeError,
} from "@northbridge/sdk";
import { type FeatureSet, type VirtioDevice, virtioSpec } from "@northbridge/sdk/virtio";
import type { ExternalDevice, SharedRegion } from "@northbridge/vhost-user";
import * as v from "valibot";
import { sayTo } from "./front-end-plugins.ts";
import { type CardConfig, cardOptions, OFFLOAD_FEATURES, QUEUE_SIZE } from "./network-card.ts";

const { Config, Feature, LinkStatus } = netSpec;

/** The kernel knows of rings and of their buffers; what frames leave undone is between the driver and the tap. */
const ours = [...OFFLOAD_FEATURES, Feature.MTU, Feature.MAC, Feature.STATUS];

export interface VhostNetConfig extends CardConfig, VhostNetOptions {
  /** `false`: where the host refuses, the guest sees no cable and the machine goes on. @defaultValue true */
  readonly required?: boolean | undefined;
}

const text = v.optional(v.pipe(v.string("expected text"), v.nonEmpty("expected text")));
const flag = v.optional(v.boolean("expected true or false"));

const NetConfig: ConfigSchema<VhostNetConfig, VhostNetConfig> = checkedBy(
  v.strictObject({
    ...cardOptions,
    required: flag,
    device: text,
    name: text,
    namespace: text,
    fds: v.optional(v.array(v.number("expected a descriptor"))),
    bridge: text,
    mtu: v.optional(v.number("expected a number")),
    persistent: flag,
    up: flag,
  }),
  checkTapOptions,
);

/** Guest memory as the kernel is told of it: where this process has it. What guests cannot write, it need not know. */
export const kernelRegions = (slots: readonly MemorySlot[]): readonly SharedRegion[] =>
  slots
    .filter(({ readOnly }) => !readOnly)
    .map(({ gpa, length, bytes }) => ({
      gpa,
      size: length,
      userAddress: addressOf(bytes),
      fd: -1,
      offset: 0,
    }));

/** A network card whose rings `server` serves, in a machine with this memory. */
export async function vhostNetCard(
  server: VhostNetServer,
  mac: Uint8Array,
  slots: readonly MemorySlot[],
): Promise<ExternalDevice> {
  const { ExternalDevice } = await import("@northbridge/vhost-user");
  const config = new Uint8Array(Config.SPEED);
  config.set(mac, Config.MAC);
  new DataView(config.buffer).setUint16(Config.MTU, server.mtu, true);
  return ExternalDevice.over(server, {
    deviceId: virtioSpec.DeviceId.NET,
    queues: [QUEUE_SIZE, QUEUE_SIZE],
    config,
    ram: { regions: kernelRegions(slots) },
    features: { theirs: [Feature.MRG_RXBUF], ours },
    connected: (isConnected, space) => {
      space[Config.STATUS] = isConnected ? LinkStatus.LINK_UP : 0;
    },
    started: (features: FeatureSet) => {
      server.setOffloads({
        checksum: features.has(Feature.GUEST_CSUM),
        tso4: features.has(Feature.GUEST_TSO4),
        tso6: features.has(Feature.GUEST_TSO6),
        ecn: features.has(Feature.GUEST_ECN),
        uso: false,
      });
    },
  });
}

/**
 * A network card whose frames the kernel's vhost-net carries between guest memory and a tap. One pair of queues, no
 * control queue; limits and filters are the tap's (tc, nftables), since no frame passes this process.
 */
export const vhostNet: DevicePlugin<VhostNetConfig> = definePlugin({
  name: "@northbridge/cli/vhostNet",
  config: NetConfig,
  async setup(ctx, { mac, slot, required, ...options }) {
    const address = (mac === undefined ? undefined : parseMac(mac)) ?? defaultMac(ctx.id);
    const device = await open(ctx, options, address).catch((error: unknown): VirtioDevice => {
      if (required !== false || !(error instanceof NorthbridgeError) || error.code !== "NB_HOST") throw error;
      sayTo(ctx)(`no network: ${error.message}`);
      return new VirtioNet({ backend: new Unplugged(), mac: address });
    });
    return attachVirtio(ctx, device, { slot });
  },
});

async function open(ctx: DeviceContext, options: VhostNetOptions, mac: Uint8Array): Promise<VirtioDevice> {
  const card = await vhostNetCard(VhostNetServer.open(options), mac, ctx.memory.slots);
  ctx.onClose(() => {
    card.close();
  });
  return card;
}
