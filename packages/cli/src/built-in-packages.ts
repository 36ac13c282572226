import { type PluginRegistry, shortName } from "@northbridge/core";
import type { MachineConfig } from "@northbridge/core/contracts";
import * as devicesLegacy from "@northbridge/devices-legacy";
import { registryOf } from "./registry-of.ts";

/** What a package that came with the command is loaded for. */
interface BuiltInPackage {
  /** Short names of its plugins, kinds of its host ends. */
  readonly names: readonly string[];
  load(): Promise<object>;
}

/** All but devices-legacy, which nearly every machine has. */
export const PACKAGES: readonly BuiltInPackage[] = [
  {
    names: [
      "virtioBalloon",
      "virtioBlk",
      "virtioConsole",
      "virtioFs",
      "virtioInput",
      "virtioNet",
      "virtioPmem",
      "virtioRng",
      "virtioScsi",
      "virtioVsock",
    ],
    load: () => import("@northbridge/devices-virtio"),
  },
  {
    names: ["capture", "dgram", "stream", "switch", "tap", "user"],
    load: () => import("@northbridge/net-tap"),
  },
  { names: ["nbd", "qcow2", "throttled"], load: () => import("@northbridge/storage-qcow2") },
  { names: ["directory", "file"], load: () => import("./host-ends.ts") },
  { names: ["vhostUserBlk", "vhostUserFs"], load: () => import("./vhost-user/front-end-plugins.ts") },
  { names: ["vhostUserNet"], load: () => import("./vhost-user/net-front-end.ts") },
  { names: ["vhostNet"], load: () => import("./vhost-user/vhost-net.ts") },
];

/**
 * The registry of the packages whose plugins and host ends `config` names: loading the others would cost each start tens
 * of milliseconds. All of them without a config, and where it names what none has: the message says what there is.
 */
export async function registryFor(config?: MachineConfig): Promise<PluginRegistry> {
  const always = registryOf([devicesLegacy]);
  const names = config === undefined ? undefined : new Set(namesIn(config.devices));
  const isOne = (name: string): boolean =>
    always.knows(name) || PACKAGES.some((one) => one.names.includes(name));
  const wanted =
    names !== undefined && [...names].every(isOne)
      ? PACKAGES.filter((one) => one.names.some((name) => names.has(name)))
      : PACKAGES;
  if (wanted.length === 0) return always;
  return registryOf([devicesLegacy, ...(await Promise.all(wanted.map((one) => one.load())))]);
}

/** Short names of plugins and kinds of host ends, wherever a config has them. */
function* namesIn(value: unknown): Iterable<string> {
  if (Array.isArray(value)) for (const item of value) yield* namesIn(item);
  else if (typeof value === "object" && value !== null) {
    // Of a device that a module made, only the options are data.
    const data = "spec" in value && "input" in value ? { input: value.input } : value;
    if (Object.getPrototypeOf(data) !== Object.prototype) return;
    for (const [key, item] of Object.entries(data)) {
      if (typeof item !== "string") yield* namesIn(item);
      else if (key === "plugin" || key === "kind") yield shortName(item);
    }
  }
}
