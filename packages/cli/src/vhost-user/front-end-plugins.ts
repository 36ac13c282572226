import { attachVirtio, blkSpec } from "@northbridge/devices-virtio";
import {
  type ConfigSchema,
  definePlugin,
  type DeviceContext,
  type DevicePlugin,
  Log,
  logLine,
  type Token,
  token,
} from "@northbridge/sdk";
import { virtioSpec } from "@northbridge/sdk/virtio";
import type { SharedRam, SocketDeviceOptions } from "@northbridge/vhost-user";
import * as v from "valibot";

const { DeviceId } = virtioSpec;
const { Config: Space, Feature } = blkSpec;
/** struct virtio_fs_config (§5.11.4): the tag, then the number of request queues. */
const FS_TAG = 36;

const Ram: Token<SharedRam> = token<SharedRam>("sharedRam");

export interface VhostUserDeviceConfig {
  /** The Unix socket at which the back end listens. */
  readonly path: string;
  /** Queues for requests. @defaultValue 1 */
  readonly queues?: number | undefined;
  /** Device number on the PCI bus, 1–31. @defaultValue the lowest free one */
  readonly slot?: number | undefined;
}

export interface VhostUserFsConfig extends VhostUserDeviceConfig {
  /** What the guest mounts the file system by, at most 36 bytes. */
  readonly tag: string;
}

const common = {
  path: v.pipe(v.string(), v.nonEmpty()),
  queues: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(7)), 1),
  slot: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(31))),
};
type Parsed<T extends VhostUserDeviceConfig> = T & { readonly queues: number };

const BlockConfig: ConfigSchema<VhostUserDeviceConfig, Parsed<VhostUserDeviceConfig>> = v.strictObject(
  common,
);
const FsConfig: ConfigSchema<VhostUserFsConfig, Parsed<VhostUserFsConfig>> = v.strictObject({
  ...common,
  tag: v.pipe(v.string(), v.nonEmpty(), v.maxBytes(FS_TAG)),
});

/** The machine's RAM in files, once for all of its devices. */
export async function sharedRam(ctx: DeviceContext): Promise<SharedRam> {
  const known = ctx.find(Ram);
  if (known !== undefined) return known;
  const vhostUser = await import("@northbridge/vhost-user");
  const ram = new vhostUser.SharedRam(ctx.memory.slots);
  ctx.onClose(() => {
    ram.close();
  });
  ctx.provide(Ram, ram);
  return ram;
}

/** Puts what a person should know of a device into the machine's log. */
export function sayTo(ctx: DeviceContext): (line: string) => void {
  return (line) => {
    logLine(ctx.find(Log), ctx.id, line);
  };
}

/** A disk of so many queues. */
export const diskOptions = (queues: number): Omit<SocketDeviceOptions, "socket" | "ram"> => ({
  deviceId: DeviceId.BLOCK,
  queues: new Array<number>(queues).fill(256),
  config: Space.LENGTH,
  // The back end's, which may have more, would have a driver ask for queues that are not there.
  own: (config) => {
    new DataView(config.buffer, config.byteOffset).setUint16(Space.NUM_QUEUES, queues, true);
  },
  identity: [
    { name: "capacity", offset: Space.CAPACITY, length: 8 },
    { name: "limits and topology", offset: Space.SIZE_MAX, length: Space.WRITEBACK - Space.SIZE_MAX },
    {
      name: "limits of discards and zeroes",
      offset: Space.MAX_DISCARD_SECTORS,
      length: Space.WRITE_ZEROES_MAY_UNMAP + 1 - Space.MAX_DISCARD_SECTORS,
    },
  ],
  writable: [
    {
      ...{ name: "writeback", offset: Space.WRITEBACK, length: 1 },
      ...{ feature: Feature.CONFIG_WCE, needs: Feature.FLUSH },
    },
  ],
});

/** A disk that another program serves: `qemu-storage-daemon --export type=vhost-user-blk`, or `northbridge vhost-user`. */
export const vhostUserBlk: DevicePlugin<VhostUserDeviceConfig> = definePlugin({
  name: "@northbridge/cli/vhostUserBlk",
  config: BlockConfig,
  async setup(ctx, { path, queues, slot }) {
    const ram = await sharedRam(ctx);
    const { ExternalDevice } = await import("@northbridge/vhost-user");
    const options = { ...diskOptions(queues), socket: path, ram, say: sayTo(ctx) };
    const device = await ExternalDevice.connect(options);
    ctx.onClose(() => {
      device.close();
    });
    return attachVirtio(ctx, device, { slot });
  },
});

/** A directory that another program serves: `virtiofsd`. */
export const vhostUserFs: DevicePlugin<VhostUserFsConfig> = definePlugin({
  name: "@northbridge/cli/vhostUserFs",
  config: FsConfig,
  async setup(ctx, { path, queues, slot, tag }) {
    const ram = await sharedRam(ctx);
    const { ExternalDevice } = await import("@northbridge/vhost-user");
    const config = new Uint8Array(FS_TAG + 4);
    config.set(new TextEncoder().encode(tag));
    config[FS_TAG] = queues;
    const device = await ExternalDevice.connect({
      socket: path,
      deviceId: DeviceId.FS,
      queues: new Array<number>(1 + queues).fill(128),
      config,
      ram,
      say: sayTo(ctx),
    });
    ctx.onClose(() => {
      device.close();
    });
    return attachVirtio(ctx, device, { slot });
  },
});
