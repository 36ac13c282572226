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
import { loadContent } from "./load-content.ts";
import { VirtioPmem } from "./virtio-pmem.ts";

export interface VirtioPmemConfig extends PlacementConfig {
  /** What the memory holds: `{ kind: file, path: pmem.img }`, or any other block back end, of exactly `mib`. */
  readonly file: HostEndConfig;
  /** Size. An even number: Linux maps such memory in pages of 2 MiB. */
  readonly mib: number;
}

const MIB = 2 ** 20;
const size = "expected an even number of MiB, from 2 to 4096";
const Config: ConfigSchema<VirtioPmemConfig, VirtioPmemConfig> = v.strictObject({
  ...placement,
  file: hostEnd,
  mib: v.pipe(v.number(size), v.multipleOf(2, size), v.minValue(2, size), v.maxValue(4096, size)),
});

/** A file as persistent memory of the guest: `/dev/pmem0`. */
export const virtioPmem: DevicePlugin<VirtioPmemConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioPmem",
  config: Config,
  requires: [HostEnds],
  ends: { file: "block" },
  memoryBytes: ({ mib }) => mib * MIB,
  async setup(ctx, { file, mib, ...place }) {
    const { ownMemory: slot } = ctx;
    if (slot === undefined) throw new NorthbridgeError("NB_CONFIG", "this host gives devices no memory");
    const backend = await ctx.get(HostEnds).block(file, { readOnly: false });
    ctx.onClose(() => backend.close());
    if (!backend.isSizeUnknown && backend.size !== mib * MIB) {
      throw new NorthbridgeError("NB_CONFIG", `file: expected ${mib} MiB, found ${backend.size} bytes`);
    }
    const content = await loadContent(slot, ctx.memory, backend, ctx.clock);
    return attach(ctx, new VirtioPmem({ slot, content }), place);
  },
});
