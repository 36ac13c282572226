import {
  type ConfigSchema,
  definePlugin,
  type DevicePlugin,
  HostEnds,
  NorthbridgeError,
} from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import { hostEnd, type HostEndConfig } from "../host-end.ts";
import { ID_LENGTH } from "./spec.ts";
import { type OnError, VirtioBlk } from "./virtio-blk.ts";

export interface VirtioBlkConfig extends PlacementConfig {
  /** `{ kind: file, path: disk.img }` for a raw image, `{ kind: memory, mib: 64 }`, or any other block back end. */
  readonly disk: HostEndConfig;
  readonly readOnly?: boolean | undefined;
  /** What the guest finds as the disk's serial number, at most 20 bytes. @defaultValue the device's id */
  readonly serial?: string | undefined;
  /** @defaultValue 1 */
  readonly queues?: number | undefined;
  /** A power of two from 4. @defaultValue 256 */
  readonly queueSize?: number | undefined;
  /** What the guest learns of a host's error: an I/O error, or nothing. @defaultValue report */
  readonly onError?: Exclude<OnError, "stop"> | undefined;
}

interface Parsed extends VirtioBlkConfig {
  readonly readOnly: boolean;
  readonly queues: number;
  readonly queueSize: number;
  readonly onError: Exclude<OnError, "stop">;
}

const Config: ConfigSchema<VirtioBlkConfig, Parsed> = v.strictObject({
  ...placement,
  disk: hostEnd,
  readOnly: v.optional(v.boolean(), false),
  serial: v.optional(
    v.pipe(v.string(), v.regex(/^[\x20-\x7e]*$/, "expected printable ASCII"), v.maxLength(ID_LENGTH)),
  ),
  queues: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(64)), 1),
  queueSize: v.optional(
    v.pipe(
      v.number(),
      v.check(
        (size) => size >= 4 && size <= 1024 && (size & (size - 1)) === 0,
        "expected a power of two, 4 to 1024",
      ),
    ),
    256,
  ),
  onError: v.optional(v.picklist(["report", "ignore"]), "report"),
});

/** A virtio disk. */
export const virtioBlk: DevicePlugin<VirtioBlkConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioBlk",
  config: Config,
  requires: [HostEnds],
  ends: { disk: "block" },
  async setup(ctx, { disk, readOnly, serial, queues, queueSize, onError, ...place }) {
    const backend = await ctx.get(HostEnds).block(disk, { readOnly });
    ctx.onClose(() => backend.close());
    if (backend.readOnly && !readOnly) {
      throw new NorthbridgeError("NB_CONFIG", `disk: ${disk.kind} can only be read; say readOnly: true`);
    }
    const device = new VirtioBlk({ backend, serial: serial ?? ctx.id, queues, queueSize, onError });
    return attach(ctx, device, place);
  },
});
