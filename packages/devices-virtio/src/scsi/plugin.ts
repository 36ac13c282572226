import {
  type BlockBackend,
  type ConfigSchema,
  definePlugin,
  type DevicePlugin,
  HostEnds,
} from "@northbridge/sdk";
import * as v from "valibot";
import { attach, expectMachine, placement, type PlacementConfig } from "../attach.ts";
import { hostEnd, type HostEndConfig } from "../host-end.ts";
import type { OnError } from "../on-error.ts";
import { MAX_TARGETS } from "./spec.ts";
import { type ScsiTarget, VirtioScsi } from "./virtio-scsi.ts";

/** A target with one unit: a disk, or a CD-ROM drive that may be empty. */
export interface ScsiTargetConfig {
  /** @defaultValue disk */
  readonly type?: "disk" | "cdRom" | undefined;
  /** A block back end. Disks have one. */
  readonly disk?: HostEndConfig | undefined;
  /** Whether a disk is write-protected. @defaultValue false */
  readonly readOnly?: boolean | undefined;
  /** Up to 20 characters. @defaultValue made of the device's id and the target's number */
  readonly serial?: string | undefined;
}

export interface VirtioScsiConfig extends PlacementConfig {
  /** Targets 0, 1 … */
  readonly targets: readonly ScsiTargetConfig[];
  /** Request queues. @defaultValue 1 */
  readonly queues?: number | undefined;
  /**
   * What happens when the host cannot do what a command asks: `stop` pauses the machine, `ignore` tells the guest that it
   * was done. @defaultValue report
   */
  readonly onError?: OnError | undefined;
}

type Parsed = VirtioScsiConfig & { readonly queues: number; readonly onError: OnError };

const target = v.pipe(
  v.strictObject({
    type: v.optional(v.picklist(["disk", "cdRom"])),
    disk: v.optional(hostEnd),
    readOnly: v.optional(v.boolean()),
    serial: v.optional(
      v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,20}$/, "expected 1 to 20 printable ASCII characters")),
    ),
  }),
  v.check(({ type, disk }) => type === "cdRom" || disk !== undefined, "expected a disk"),
);

const Config: ConfigSchema<VirtioScsiConfig, Parsed> = v.strictObject({
  ...placement,
  targets: v.pipe(v.array(target), v.minLength(1), v.maxLength(MAX_TARGETS)),
  queues: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(64)), 1),
  onError: v.optional(v.picklist(["report", "stop", "ignore"]), "report"),
});

/** A virtio SCSI host with disks and CD-ROM drives. */
export const virtioScsi: DevicePlugin<VirtioScsiConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioScsi",
  config: Config,
  requires: [HostEnds],
  ends: { "targets.*.disk": "block" },
  async setup(ctx, { targets, queues, onError, ...place }) {
    expectMachine(ctx, onError);
    const inUse = new Set<BlockBackend>();
    const open = async (disk: HostEndConfig, readOnly: boolean): Promise<BlockBackend> => {
      const backend = await ctx.get(HostEnds).block(disk, { readOnly });
      inUse.add(backend);
      return backend;
    };
    const close = async (backend: BlockBackend): Promise<void> => {
      inUse.delete(backend);
      await backend.close();
    };
    ctx.onClose(async () => {
      for (const backend of inUse) await close(backend);
    });
    const opened: ScsiTarget[] = [];
    for (const [index, { type = "disk", disk, readOnly = type === "cdRom", serial }] of targets.entries()) {
      const backend = disk && (await open(disk, readOnly));
      const own = serial ?? `${ctx.id}-${index}`.slice(-20);
      if (type === "cdRom") opened.push({ type, backend, serial: own });
      else if (backend !== undefined) opened.push({ type, backend, serial: own });
    }
    const device = new VirtioScsi({
      targets: opened,
      queues,
      onError,
      stop: (reason) => {
        ctx.power.pause(`${ctx.id}: ${reason}`);
      },
      media: { open: (path) => open({ kind: "file", path }, true), close },
    });
    return attach(ctx, device, place);
  },
});
