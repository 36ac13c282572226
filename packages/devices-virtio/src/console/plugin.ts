import {
  type CharBackend,
  type ConfigSchema,
  definePlugin,
  type DevicePlugin,
  HostEnds,
} from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import { hostEnd, type HostEndConfig } from "../host-end.ts";
import { type NamedPort, VirtioConsole } from "./virtio-console.ts";

export interface VirtioConsoleConfig extends PlacementConfig {
  /** `{ kind: console }` for the machine's own, which nobody else may use then, or a character back end. @defaultValue ring */
  readonly to?: HostEndConfig | undefined;
  /** Ports that programs of the guest find as `/dev/virtio-ports/NAME`. @defaultValue none */
  readonly ports?: readonly { readonly name: string; readonly to: HostEndConfig }[] | undefined;
  /** Size of the console in characters, where it is known. */
  readonly size?: { readonly columns: number; readonly rows: number } | undefined;
}

type Parsed = VirtioConsoleConfig & Required<Pick<VirtioConsoleConfig, "to" | "ports">>;

const cells = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(0xffff));

const Config: ConfigSchema<VirtioConsoleConfig, Parsed & { readonly to: HostEndConfig }> = v.strictObject({
  ...placement,
  to: v.optional(hostEnd, { kind: "ring" }),
  ports: v.optional(v.array(v.strictObject({ name: v.string(), to: hostEnd })), []),
  size: v.optional(v.strictObject({ columns: cells, rows: cells })),
});

/** A virtio console, `hvc0` in the guest, and named ports beside it. */
export const virtioConsole: DevicePlugin<VirtioConsoleConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioConsole",
  config: Config,
  requires: [HostEnds],
  ends: { to: "char", "ports.*.to": "char" },
  async setup(ctx, { to, ports = [], size, ...place }) {
    const open = async (end: HostEndConfig): Promise<CharBackend> => {
      const backend = await ctx.get(HostEnds).char(end);
      ctx.onClose(() => backend.close?.());
      return backend;
    };
    const backend = await open(to);
    const named: NamedPort[] = [];
    for (const port of ports) named.push({ name: port.name, backend: await open(port.to) });
    const device = new VirtioConsole({ backend, ports: named });
    if (size !== undefined) device.resize(size.columns, size.rows);
    return attach(ctx, device, place);
  },
});
