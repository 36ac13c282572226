import {
  type BlockBackend,
  type ConfigSchema,
  definePlugin,
  type DevicePlugin,
  HostEnds,
  NorthbridgeError,
} from "@northbridge/sdk";
import * as v from "valibot";
import { attach, expectMachine, placement, type PlacementConfig } from "../attach.ts";
import { hostEnd, type HostEndConfig } from "../host-end.ts";
import { rateLimits, type RateLimits } from "../rate-limiter.ts";
import { ID_LENGTH, SECTOR } from "./spec.ts";
import type { OnError } from "../on-error.ts";
import { type BlkTopology, VirtioBlk } from "./virtio-blk.ts";

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
  /**
   * What becomes of a host's error: the guest sees an I/O error, the machine pauses and tries again when a person
   * resumes it, or nothing. @defaultValue report
   */
  readonly onError?: OnError | undefined;
  readonly topology?: BlkTopology | undefined;
  /** How much the guest may ask of the disk. @defaultValue any amount */
  readonly limits?: RateLimits | undefined;
}

interface Parsed extends VirtioBlkConfig {
  readonly readOnly: boolean;
  readonly queues: number;
  readonly queueSize: number;
  readonly onError: OnError;
}

const LARGEST_BLOCK = 65_536;
const blockSize = v.optional(
  v.pipe(
    v.number(),
    v.check(
      (size) => size >= SECTOR && size <= LARGEST_BLOCK && (size & (size - 1)) === 0,
      `expected a power of two, ${SECTOR} to ${LARGEST_BLOCK}`,
    ),
  ),
);
const ioSize = v.optional(v.pipe(v.number(), v.integer(), v.minValue(SECTOR), v.maxValue(2 ** 26)));

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
  onError: v.optional(v.picklist(["report", "stop", "ignore"]), "report"),
  topology: v.optional(
    v.strictObject({ blockSize, physicalBlockSize: blockSize, minIoSize: ioSize, optIoSize: ioSize }),
  ),
  limits: v.optional(rateLimits),
});

/** A virtio disk. */
export const virtioBlk: DevicePlugin<VirtioBlkConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioBlk",
  config: Config,
  requires: [HostEnds],
  ends: { disk: "block" },
  async setup(ctx, { disk, readOnly, serial, topology, limits, queues, queueSize, onError, ...place }) {
    expectMachine(ctx, onError);
    const backend = await ctx.get(HostEnds).block(disk, { readOnly });
    ctx.onClose(() => backend.close());
    if (backend.readOnly && !readOnly) {
      throw new NorthbridgeError("NB_CONFIG", `disk: ${disk.kind} can only be read; say readOnly: true`);
    }
    expectFitting(backend, topology ?? {});
    const device = new VirtioBlk({
      backend,
      serial: serial ?? ctx.id,
      queues,
      queueSize,
      onError,
      stop: (reason) => {
        ctx.power.pause(`${ctx.id}: ${reason}`);
      },
      ...(topology && { topology }),
      ...(limits && { limits: { rates: limits, clock: ctx.clock } }),
    });
    return attach(ctx, device, place);
  },
});

/** Throws `NB_CONFIG` where the disk does not come in blocks of the size that the guest is to see. */
function expectFitting(backend: BlockBackend, topology: BlkTopology): void {
  const { blockSize = backend.blockSize, physicalBlockSize = blockSize } = topology;
  const refuse = (option: string, expected: string, found: number): never => {
    throw new NorthbridgeError("NB_CONFIG", `topology.${option}: expected ${expected}, found ${found}`);
  };
  if (blockSize < backend.blockSize)
    refuse("blockSize", `at least the disk's ${backend.blockSize}`, blockSize);
  if (backend.size % blockSize !== 0)
    refuse("blockSize", `a divisor of the disk's ${backend.size}`, blockSize);
  if (physicalBlockSize < blockSize) {
    refuse("physicalBlockSize", `at least the blockSize of ${blockSize}`, physicalBlockSize);
  }
  for (const option of ["minIoSize", "optIoSize"] as const) {
    const size = topology[option] ?? blockSize;
    if (size % blockSize !== 0) refuse(option, `a multiple of the blockSize of ${blockSize}`, size);
    // A field of 16 bits, in blocks (virtio 1.3 §5.2.4).
    if (option === "minIoSize" && size / blockSize > 0xffff)
      refuse(option, `at most 65535 blocks of ${blockSize}`, size);
  }
}
