import { type ConfigSchema, definePlugin, type DevicePlugin, HostEnds } from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import { hostEnd, type HostEndConfig } from "../host-end.ts";
import { TAG_LENGTH } from "./spec.ts";
import { VirtioFs } from "./virtio-fs.ts";

export interface VirtioFsConfig extends PlacementConfig {
  /** What the guest mounts: `mount -t virtiofs TAG /mnt`. At most 36 characters. */
  readonly tag: string;
  /** `{ kind: directory, path: shared }`, or another directory back end. */
  readonly directory: HostEndConfig;
  /** @defaultValue false */
  readonly readOnly?: boolean | undefined;
  /** Request queues. @defaultValue 1 */
  readonly queues?: number | undefined;
  /** How long the guest may go without asking whether the host changed something, in ms. @defaultValue 1000 */
  readonly cacheMs?: number | undefined;
}

const Config: ConfigSchema<
  VirtioFsConfig,
  VirtioFsConfig & { readonly readOnly: boolean; readonly queues: number; readonly cacheMs: number }
> = v.strictObject({
  ...placement,
  tag: v.pipe(
    v.string(),
    v.regex(/^[\x21-\x7e]+$/, "expected printable ASCII without spaces"),
    v.maxLength(TAG_LENGTH),
  ),
  directory: hostEnd,
  readOnly: v.optional(v.boolean(), false),
  queues: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(16)), 1),
  cacheMs: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(3_600_000)), 1000),
});

/** A directory of the host, mounted in the guest (virtiofs). */
export const virtioFs: DevicePlugin<VirtioFsConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioFs",
  config: Config,
  requires: [HostEnds],
  ends: { directory: "directory" },
  async setup(ctx, { tag, directory, readOnly, queues, cacheMs, ...place }) {
    const tree = await ctx.get(HostEnds).directory(directory, { readOnly });
    ctx.onClose(() => tree.closeTree());
    return attach(ctx, new VirtioFs({ tree, tag, requestQueues: queues, cacheMs }), place);
  },
});
