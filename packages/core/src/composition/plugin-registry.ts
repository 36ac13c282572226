import type {
  DeviceEntry,
  DevicePluginSpec,
  DeviceReference,
  HostEndKind,
  MachineType,
  Token,
} from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";
import { ConfigError } from "../config/config-error.ts";
import { didYouMean } from "./did-you-mean.ts";
import { HostEndKinds } from "./host-end-kinds.ts";

/** A plugin as the registry wants it: every `DevicePlugin` is one. */
export interface RegisteredPlugin {
  readonly pluginName: string;
  readonly spec: DevicePluginSpec<never, never>;
}

/** The name behind the package: `serial` of `@northbridge/devices-legacy/serial`. */
export const shortName = (pluginName: string): string => pluginName.slice(pluginName.lastIndexOf("/") + 1);

/** A machine with nothing but what its config lists, and RAM without a PC's holes. */
export const bare1: MachineType = { name: "bare-1", layout: "flat", devices: () => [] };

/** The plugins, machine types and kinds of host ends that configs may name. */
export class PluginRegistry {
  readonly #plugins = new Map<string, DevicePluginSpec<never, never>>();
  readonly #byShortName = new Map<string, DevicePluginSpec<never, never>[]>();
  readonly #machineTypes = new Map<string, MachineType>();

  readonly hostEnds: HostEndKinds = new HostEndKinds();

  constructor(
    plugins: Iterable<RegisteredPlugin> = [],
    machineTypes: Iterable<MachineType> = [],
    hostEnds: Iterable<HostEndKind> = [],
  ) {
    this.addMachineType(bare1);
    for (const plugin of plugins) this.addPlugin(plugin);
    for (const type of machineTypes) this.addMachineType(type);
    for (const kind of hostEnds) this.hostEnds.add(kind);
  }

  /** Throws `NB_CONFIG` where another plugin has the name. */
  addPlugin(plugin: RegisteredPlugin): void {
    const known = this.#plugins.get(plugin.pluginName);
    if (known === plugin.spec) return;
    if (known !== undefined)
      throw new NorthbridgeError("NB_CONFIG", `two plugins are called ${plugin.pluginName}`);
    this.#plugins.set(plugin.pluginName, plugin.spec);
    const short = shortName(plugin.pluginName);
    this.#byShortName.set(short, [...(this.#byShortName.get(short) ?? []), plugin.spec]);
  }

  /** Throws `NB_CONFIG` where another type has the name: a published one never changes. */
  addMachineType(type: MachineType): void {
    const known = this.#machineTypes.get(type.name);
    if (known !== undefined && known !== type)
      throw new NorthbridgeError("NB_CONFIG", `two machine types are called ${type.name}`);
    this.#machineTypes.set(type.name, type);
  }

  get plugins(): readonly DevicePluginSpec<never, never>[] {
    return [...this.#plugins.values()];
  }

  get machineTypes(): readonly MachineType[] {
    return [...this.#machineTypes.values()];
  }

  /** Whether `name` alone says which plugin is meant. */
  isUniqueShortName(name: string): boolean {
    return this.#byShortName.get(name)?.length === 1;
  }

  /** Whether a plugin has this short name, or a kind of host end this name. */
  knows(name: string): boolean {
    return this.#byShortName.has(name) || this.hostEnds.has(name);
  }

  /**
   * The plugin of a full name or a unique short one. Throws `NB_UNKNOWN_PLUGIN`.
   * @param where config path of the name, for the message
   */
  plugin(name: string, where: string): DevicePluginSpec<never, never> {
    const exact = this.#plugins.get(name);
    if (exact !== undefined) return exact;
    const short = this.#byShortName.get(name) ?? [];
    const [only, second] = short;
    if (only !== undefined && second === undefined) return only;
    if (only !== undefined) {
      throw new ConfigError(
        "NB_UNKNOWN_PLUGIN",
        where,
        `"${name}" is ambiguous; write one of ${short.map((spec) => spec.name).join(", ")}`,
      );
    }
    const names = name.includes("/") ? this.#plugins.keys() : this.#byShortName.keys();
    const hint =
      didYouMean(name, names) || `; there are ${[...this.#byShortName.keys()].sort().join(", ") || "none"}`;
    throw new ConfigError("NB_UNKNOWN_PLUGIN", where, `expected a plugin's name, found "${name}"${hint}`);
  }

  /** Throws `NB_CONFIG` where there is no such type. */
  machineType(name: string): MachineType {
    const type = this.#machineTypes.get(name);
    if (type !== undefined) return type;
    const names = [...this.#machineTypes.keys()];
    throw new ConfigError(
      "NB_CONFIG",
      "machine",
      `expected one of ${names.join(", ")}, found "${name}"${didYouMean(name, names)}`,
    );
  }

  /** Which plugin could provide `token`, for a message. */
  providerOf(token: Token<unknown>): string | undefined {
    return this.plugins.find((spec) => spec.provides?.includes(token))?.name;
  }

  /** The entry a reference of JSON or YAML stands for: everything but `plugin` and `id` is the plugin's config. */
  resolve(reference: DeviceReference, where: string): DeviceEntry {
    const { plugin, id, ...input } = reference;
    return { spec: this.plugin(plugin, `${where}.plugin`), input, id };
  }
}
