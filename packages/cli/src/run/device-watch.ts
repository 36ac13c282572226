import { type FSWatcher, readdirSync, watch } from "node:fs";
import { type ModuleHooks, registerHooks } from "node:module";
import { dirname, extname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import {
  loadMachineConfig,
  type Machine,
  type MachineOptions,
  moduleErrorReason,
  planMachine,
} from "@northbridge/core";
import { type Hypervisor, NorthbridgeError } from "@northbridge/core/contracts";
import type { PluginRegistry } from "@northbridge/core";
import { ReloadableDevice } from "@northbridge/sdk/reload";

/** Editors write a file in several steps. */
const SETTLE_MS = 100;
const WATCHED = new Set([".ts", ".mts", ".js", ".mjs", ".json"]);

/** What a watch needs to know of its machine. */
export interface DeviceWatchOptions {
  /** The machine's config: a module, whose devices come from modules beside and below it. */
  readonly file: string;
  readonly overrides: readonly string[];
  readonly registry: PluginRegistry;
  readonly hypervisor: Pick<Hypervisor, "name" | "limits">;
  /** Tells a person, in a line. */
  readonly say: (line: string) => void;
}

/** Replaces the devices of a running machine whose modules change: every one that did not come with the command. */
export class DeviceWatch implements Disposable {
  readonly #options: DeviceWatchOptions;
  readonly #directory: string;
  readonly #devices = new Map<string, ReloadableDevice>();
  readonly #hooks: ModuleHooks;
  /** By directory. A file that is saved by a rename is a new one: only its directory hears of that. */
  readonly #watchers = new Map<string, FSWatcher>();
  #timer: NodeJS.Timeout | undefined;
  #version = 0;
  #tail: Promise<void> = Promise.resolve();

  constructor(options: DeviceWatchOptions) {
    this.#options = options;
    this.#directory = dirname(resolve(options.file));
    const below = `${pathToFileURL(this.#directory).href}/`;
    // A module is loaded once for each address: a new version gets new ones.
    this.#hooks = registerHooks({
      resolve: (specifier, context, next) => {
        const resolved = next(specifier, context);
        const isOurs = resolved.url.startsWith(below) && !resolved.url.includes("/node_modules/");
        if (this.#version === 0 || !isOurs) return resolved;
        const url = new URL(resolved.url);
        url.searchParams.set("version", String(this.#version));
        return { ...resolved, url: url.href };
      },
    });
  }

  /** For `createMachine`. */
  readonly adapt: NonNullable<MachineOptions["adapt"]> = (spec, id) => {
    if (this.#options.registry.plugins.some(({ name }) => name === spec.name)) return spec;
    const device = new ReloadableDevice(spec);
    this.#devices.set(id, device);
    return device.spec;
  };

  /** Throws `NB_CONFIG` where there is nothing to watch. */
  start(machine: Machine): void {
    const { file } = this.#options;
    if (this.#devices.size === 0) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${file}: --watch: expected a device from a module of this machine's, found none`,
      );
    }
    this.#watchBelow(this.#directory, machine);
  }

  /** Watches the directory and those below it that are not watched yet. */
  #watchBelow(directory: string, machine: Machine): void {
    try {
      if (!this.#watchers.has(directory)) this.#watchers.set(directory, this.#watch(directory, machine));
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        if (!entry.isDirectory() || entry.name === "node_modules" || entry.name.startsWith(".")) continue;
        this.#watchBelow(join(directory, entry.name), machine);
      }
    } catch (error) {
      this.#options.say(`${directory}: not watched: ${messageOf(error)}`);
    }
  }

  #watch(directory: string, machine: Machine): FSWatcher {
    return watch(directory, (_event, name) => {
      if (name === null || !WATCHED.has(extname(name))) return;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => {
        this.#watchBelow(this.#directory, machine);
        this.#tail = this.#tail.then(() => this.#reload(machine));
      }, SETTLE_MS);
    }).on("error", (error) => {
      this.#watchers.delete(directory);
      this.#options.say(`${directory}: no longer watched: ${messageOf(error)}`);
    });
  }

  async #reload(machine: Machine): Promise<void> {
    const { file, overrides, registry, hypervisor, say } = this.#options;
    this.#version++;
    try {
      const { config } = await loadMachineConfig(file, overrides);
      const { devices } = await planMachine(config, registry, hypervisor);
      const wasRunning = machine.state === "running";
      if (wasRunning) await machine.pause();
      try {
        for (const [id, device] of this.#devices) {
          const planned = devices.find((candidate) => candidate.id === id);
          if (planned === undefined) say(`${id}: not reloaded: ${file} has no such device any more`);
          else await this.#replace(id, device, planned);
        }
      } finally {
        if (wasRunning) await machine.resume();
      }
    } catch (error) {
      if (machine.state !== "stopped") say(`not reloaded: ${reasonOf(error, file)}`);
    }
  }

  async #replace(
    id: string,
    device: ReloadableDevice,
    { spec, config }: { readonly spec: ReloadableDevice["spec"]; readonly config: unknown },
  ): Promise<void> {
    try {
      await device.replace(spec, config);
      this.#options.say(`${id}: reloaded`);
    } catch (error) {
      this.#options.say(`${id}: not reloaded: ${reasonOf(error, this.#options.file)}`);
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#hooks.deregister();
  }
}

/** What an author wants to know: the message, and the line that it came from where it is no error of ours. */
const reasonOf = (error: unknown, file: string): string =>
  error instanceof NorthbridgeError ? error.message : moduleErrorReason(error, resolve(file));

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
