import { isHostEndKind, type PluginRegistry, shortName } from "@northbridge/core";
import type { HostEndSort, MachineConfig } from "@northbridge/core/contracts";
import { debugConsole } from "@northbridge/core/testing";
import { describe, expect, it } from "vitest";
import { PACKAGES, registryFor } from "./built-in-packages.ts";
import { builtInRegistry } from "./built-in-registry.ts";
import { isPlugin } from "./device/load-device-module.ts";

const SORTS: readonly HostEndSort[] = ["block", "char", "net", "directory", "vsock"];

const kinds = (registry: PluginRegistry): readonly string[] =>
  SORTS.flatMap((sort) => registry.hostEnds.of(sort).map(({ kind }) => `${sort} ${kind}`)).sort();
const plugins = (registry: PluginRegistry): readonly string[] =>
  registry.plugins.map(({ name }) => name).sort();

const machine = (...devices: NonNullable<MachineConfig["devices"]>): MachineConfig => ({
  memory: { mib: 1 },
  devices,
});

describe("the packages that come with the command", () => {
  it("are listed with all the names that configs may use of them", async () => {
    for (const { names, load } of PACKAGES) {
      const exported: readonly unknown[] = Object.values(await load());
      const found = [
        ...exported.filter(isPlugin).map(({ pluginName }) => shortName(pluginName)),
        ...exported.filter(isHostEndKind).map(({ kind }) => kind),
      ];
      expect([...names].sort()).toEqual([...new Set(found)].sort());
    }
  });

  it("make one registry, loaded at once or by name", async () => {
    const lazy = await registryFor();
    const eager = builtInRegistry();
    expect(plugins(lazy)).toEqual(plugins(eager));
    expect(kinds(lazy)).toEqual(kinds(eager));
    expect(lazy.machineTypes.map(({ name }) => name)).toEqual(eager.machineTypes.map(({ name }) => name));
  });
});

describe("registryFor", () => {
  it("leaves out what a machine does not name", async () => {
    const plain = await registryFor(machine());
    expect(plain.knows("serial")).toBe(true);
    expect(plain.knows("virtioBlk")).toBe(false);
    expect(plain.knows("qcow2")).toBe(false);
  });

  it("has a device by its short or full name, and the ends inside its options", async () => {
    const disk = { kind: "qcow2", path: "disk.qcow2" };
    for (const plugin of ["virtioBlk", "@northbridge/devices-virtio/virtioBlk"]) {
      const registry = await registryFor(machine({ plugin, disk }));
      expect(registry.knows("virtioBlk")).toBe(true);
      expect(registry.knows("qcow2")).toBe(true);
      expect(registry.knows("tap")).toBe(false);
    }
  });

  it("looks into the options of a module's own device, and not into the device", async () => {
    const entry = { ...debugConsole(), input: { net: { kind: "user" } } };
    const registry = await registryFor(machine(entry));
    expect(registry.knows("user")).toBe(true);
    expect(registry.knows("virtioBlk")).toBe(false);
  });

  it("has everything for a machine that names what nobody has", async () => {
    const registry = await registryFor(machine({ plugin: "virtioBlok" }));
    expect(plugins(registry)).toEqual(plugins(builtInRegistry()));
  });
});
