import * as v from "valibot";
import { describe, expect, it } from "vitest";
import {
  type DevicePluginSpec,
  type HostEndContext,
  type HostEndKind,
  type HostEndOptions,
  HostEnds,
  type MachineConfig,
  NorthbridgeError,
} from "../contracts/index.ts";
import { machineJsonSchema } from "../config/json-schema.ts";
import { MemoryBlock } from "../host/memory-block.ts";
import { createMachine } from "../machine/create-machine.ts";
import type { Machine } from "../machine/machine.ts";
import { planMachine } from "../machine/plan-machine.ts";
import { tryMachine } from "../machine/try-machine.ts";
import { FakeHypervisor } from "../testing/fake-hypervisor.ts";
import { PluginRegistry, type RegisteredPlugin } from "./plugin-registry.ts";

interface DiskConfig {
  readonly disk: HostEndOptions;
  readonly link?: HostEndOptions | undefined;
  readonly ports?: readonly { readonly to: HostEndOptions }[] | undefined;
}

/** A device with a disk and a link that it opens in `setup`, and ports. */
const spec: DevicePluginSpec<unknown, DiskConfig> = {
  name: "@fake/devices/disk",
  config: v.strictObject({
    disk: v.looseObject({ kind: v.string() }),
    link: v.optional(v.looseObject({ kind: v.string() })),
    ports: v.optional(v.array(v.strictObject({ to: v.looseObject({ kind: v.string() }) }))),
  }),
  requires: [HostEnds],
  ends: { disk: "block", link: "net", "ports.*.to": "char" },
  async setup(ctx, { disk, link, ports = [] }) {
    const backend = await ctx.get(HostEnds).block(disk, { readOnly: true });
    ctx.onClose(() => backend.close());
    if (link) await ctx.get(HostEnds).net(link);
    for (const { to } of ports) await ctx.get(HostEnds).char(to);
    return {};
  },
};
const disk: RegisteredPlugin = {
  pluginName: spec.name,
  spec: spec as unknown as DevicePluginSpec<never, never>,
};

/** A block back end over another; remembers what it was opened with. */
const opened: (readonly [options: unknown, context: HostEndContext])[] = [];
const layered: HostEndKind<"block", unknown, { below: HostEndOptions; cache: boolean }> = {
  kind: "layered",
  of: "block",
  options: v.strictObject({
    below: v.looseObject({ kind: v.string() }),
    cache: v.optional(v.boolean(), true),
  }),
  ends: { below: "block" },
  async open(options, context) {
    opened.push([options, context]);
    context.onStats(() => ({ hits: 7 }));
    return context.ends.block(options.below, { readOnly: context.readOnly });
  },
};
/** What the host refuses. */
const refused: HostEndKind = {
  kind: "refused",
  of: "net",
  options: v.strictObject({}),
  open: () => {
    throw new NorthbridgeError("NB_HOST", "tap0: permission denied");
  },
};

const registry = new PluginRegistry([disk], [], [layered, refused]);
const config = (options: Readonly<Record<string, unknown>>): MachineConfig => ({
  machine: "bare-1",
  memory: { mib: 1 },
  devices: [{ plugin: "disk", id: "d", ...options }],
});
const plan = (options: Readonly<Record<string, unknown>>): Promise<unknown> =>
  planMachine(config(options), registry, { name: "fake" });
const create = (options: Readonly<Record<string, unknown>>): Promise<Machine> =>
  createMachine({ config: config(options), hypervisor: new FakeHypervisor([]), registry });

const memory = { kind: "memory", mib: 1 };

describe("host ends of a config", () => {
  it.each([
    [
      "a kind that is none",
      { disk: { kind: "layred" } },
      'disk.kind: expected a block back end, found "layred"; did you mean "layered"?',
    ],
    [
      "a kind like nothing",
      { disk: { kind: "toString" } },
      'disk.kind: expected a block back end, found "toString"; there are faulty, file, layered, memory',
    ],
    [
      "a kind of another sort",
      { disk: memory, link: { kind: "memory" } },
      'link.kind: expected a net back end, found "memory"; there are loopback, refused',
    ],
    [
      "one in a list",
      { disk: memory, ports: [{ to: { kind: "null" } }, { to: { kind: "nul" } }] },
      'ports[1].to.kind: expected a char back end, found "nul"; did you mean "null"?',
    ],
    ["a misspelt option", { disk: { kind: "memory", mb: 1 } }, 'disk: unknown key "mb"; did you mean "mib"?'],
    [
      "a wrong option",
      { disk: { kind: "memory", mib: 0 } },
      "disk.mib: expected a whole number from 1 to 2047, found 0",
    ],
    [
      "an option of the end below",
      { disk: { kind: "layered", below: { kind: "file" } } },
      "disk.below.path: expected a string, found nothing",
    ],
  ])("are checked before anything is opened: %s", async (_what, options, message) => {
    await expect(plan(options)).rejects.toMatchObject({
      code: "NB_CONFIG",
      message: `devices[0].${message}`,
    });
  });

  it("open with parsed options and a context, each over the one below, and count", async () => {
    const machine = await create({ disk: { kind: "layered", below: memory } });
    const [options, context] = opened.at(-1) ?? [];
    expect(options).toEqual({ below: memory, cache: true });
    expect([context?.device, context?.readOnly, context?.clock]).toEqual(["d", true, machine.clock]);
    expect(machine.hostEnds.map(({ device, option, sort, kind }) => [device, option, sort, kind])).toEqual([
      ["d", "disk.below", "block", "memory"],
      ["d", "disk", "block", "layered"],
    ]);
    const many = await create({ disk: memory, ports: [{ to: { kind: "null" } }, { to: { kind: "ring" } }] });
    expect(many.hostEnds.map(({ option, kind }) => [option, kind])).toEqual([
      ["disk", "memory"],
      ["ports[0].to", "null"],
      ["ports[1].to", "ring"],
    ]);
    await many.stop();
    expect(machine.stats().hostEnds).toEqual({ "d.disk": { hits: 7 } });
    await machine.stop();
  });

  it("are tried, not opened, where a machine is only checked", async () => {
    const tried: unknown[] = [];
    const lonely: HostEndKind<"block"> = {
      kind: "lonely",
      of: "block",
      options: v.strictObject({}),
      open: () => {
        throw new Error("opened");
      },
    };
    const sized: HostEndKind<"block"> = {
      ...lonely,
      kind: "sized",
      tryOpen: (_options, { device, readOnly, ends }) => {
        tried.push([device, readOnly]);
        return ends.block(memory, { readOnly });
      },
    };
    const own = new PluginRegistry([disk], [], [refused, lonely, sized]);
    const attempt = (options: Readonly<Record<string, unknown>>): Promise<void> =>
      tryMachine({ config: config(options), hypervisor: new FakeHypervisor([]), registry: own });
    await attempt({ disk: { kind: "lonely" }, link: { kind: "refused" } });
    await attempt({ disk: { kind: "sized" } });
    expect(tried).toEqual([["d", true]]);
    await expect(attempt({ disk: { kind: "file", path: "/nowhere.img" } })).rejects.toMatchObject({
      message: "devices[0].disk: /nowhere.img: cannot open for reading: there is no such file or directory",
    });
  });

  it("say where in the config the host refused", async () => {
    await expect(create({ disk: memory, link: { kind: "refused" } })).rejects.toMatchObject({
      code: "NB_HOST",
      message: "devices[0].link: tap0: permission denied",
    });
  });

  it("are in the JSON Schema, by sort", () => {
    const schema = machineJsonSchema(registry) as {
      $defs: Record<
        string,
        { anyOf: { properties: { kind: unknown; below?: unknown }; required: string[] }[] }
      >;
      properties: { devices: { items: { anyOf: { properties: Record<string, unknown> }[] } } };
    };
    expect(schema.properties.devices.items.anyOf[0]?.properties["disk"]).toEqual({ $ref: "#/$defs/block" });
    expect(schema.properties.devices.items.anyOf[0]?.properties["ports"]).toMatchObject({
      type: "array",
      items: { properties: { to: { $ref: "#/$defs/char" } } },
    });
    expect(schema.$defs["net"]?.anyOf.map(({ properties }) => properties.kind)).toEqual([
      { const: "loopback" },
      { const: "refused" },
    ]);
    expect(schema.$defs["block"]?.anyOf.at(-1)).toMatchObject({
      properties: { below: { $ref: "#/$defs/block" } },
      required: ["kind", "below"],
    });
  });

  it("are of one kind per name and sort", () => {
    registry.hostEnds.add(layered);
    expect(() => {
      registry.hostEnds.add({ ...layered });
    }).toThrow("two block back ends are called layered");
    registry.hostEnds.add({
      ...layered,
      of: "char",
      open: () => new MemoryBlock(new Uint8Array(512)),
    });
  });
});
