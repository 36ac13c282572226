import { extname } from "node:path";
import {
  applyOverrides,
  ConfigError,
  ConfigErrors,
  createMachine,
  didYouMean,
  errorOf,
  loadMachineConfig,
  type Machine,
  type PluginRegistry,
  type RegisteredPlugin,
  shortName,
} from "@northbridge/core";
import {
  type ConfigSchema,
  type DeviceEntry,
  type DeviceReference,
  definePlugin,
  NorthbridgeError,
} from "@northbridge/sdk";
import { type VirtioDevice, VirtioTransport } from "@northbridge/sdk/virtio";
import { loadDeviceModule } from "../device/load-device-module.ts";
import { HostDrivenClock } from "./host-driven-clock.ts";
import { noProcessor } from "./no-processor.ts";

/** Which device, as the command line says. */
export interface LoneDeviceOptions {
  /** Name of a plugin, `blk` for `virtioBlk`, a module that exports a plugin, or with `machine` the id of a device. */
  readonly device: string;
  /** A machine config that has the device. */
  readonly machine?: string | undefined;
  /** Options of the device, or of the machine config: `PATH=VALUE`. */
  readonly set: readonly string[];
}

/** A virtio device without a machine. */
export interface LoneDevice {
  /** As the command line has it. */
  readonly name: string;
  /** What it is called where something is wrong with it. */
  readonly id: string;
  readonly device: VirtioDevice;
  /** Resolves with what was wrong, should code of the device throw where no front end called it. */
  readonly failure: Promise<unknown>;
  /** Whether what nobody caught was the device's, which then fails. */
  blame(error: unknown): boolean;
  close(): Promise<void>;
}

const MODULE = new Set([".ts", ".mts", ".js", ".mjs"]);

/** Where the lone device is: behind its transport. */
const LONE = "devices[1]";

const nothing: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "northbridge", validate: (value) => ({ value }) },
};

/** Makes the device as a machine would, with a transport that does nothing but take it. Throws `NB_CONFIG`. */
export async function createLoneDevice(
  options: LoneDeviceOptions,
  registry: PluginRegistry,
  log: (line: string) => void,
): Promise<LoneDevice> {
  const { entry, explain } = await findEntry(options, registry);
  let found: VirtioDevice | undefined;
  let id = "";
  const transport = definePlugin({
    name: "@northbridge/cli/vhostUserTransport",
    config: nothing,
    provides: [VirtioTransport],
    setup(host) {
      host.provide(VirtioTransport, {
        attach: (ctx, device) => {
          found = device;
          id = ctx.id;
          return {};
        },
      });
      return {};
    },
  });
  const time = new HostDrivenClock();
  let machine: Machine;
  try {
    machine = await createMachine({
      config: { machine: "bare-1", memory: { mib: 1 }, devices: [transport(), entry] },
      hypervisor: noProcessor,
      registry,
      clock: time.clock,
      log: lines(log),
    });
  } catch (error) {
    time.stop();
    throw explain(error);
  }
  const close = async (): Promise<void> => {
    time.stop();
    await machine.stop();
  };
  if (found === undefined) {
    await close();
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${options.device}: expected a virtio device, found one of another kind`,
    );
  }
  const failure = new Promise((resolve) => {
    void machine.stopped.then((reason) => {
      if (reason.kind === "error") resolve(machine.failure);
    });
  });
  return { name: options.device, id, device: found, failure, blame: (error) => machine.blame(error), close };
}

interface FoundEntry {
  readonly entry: DeviceEntry | DeviceReference;
  readonly explain: (error: unknown) => unknown;
}

async function findEntry(options: LoneDeviceOptions, registry: PluginRegistry): Promise<FoundEntry> {
  const { device, machine, set } = options;
  if (machine !== undefined) return fromMachine(device, machine, set);
  const plugin = MODULE.has(extname(device)) ? await fromModule(device) : fromRegistry(device, registry);
  const entry = { spec: plugin.spec, input: await applyOverrides({}, set), id: shortName(plugin.spec.name) };
  return { entry, explain: (error) => eachProblem(error, (one) => withoutPlace(device, one)) };
}

/** The same for one problem and for several. */
function eachProblem(error: unknown, change: (one: unknown) => unknown): unknown {
  if (!(error instanceof ConfigErrors)) return change(error);
  const changed = error.errors.map(change).filter((one) => one instanceof NorthbridgeError);
  return errorOf(changed) ?? error;
}

/** The place of the device in a machine means nothing here. */
const withoutPlace = (device: string, error: unknown): unknown =>
  error instanceof ConfigError
    ? new NorthbridgeError(error.code, `${device}: ${error.message.replace(/^devices\[1\][.:]? ?/, "")}`, {
        cause: error,
      })
    : error;

/** Throws `NB_UNKNOWN_PLUGIN`. */
function fromRegistry(device: string, registry: PluginRegistry): Pick<RegisteredPlugin, "spec"> {
  const name = fullName(device, registry);
  if (device.includes("/") || registry.knows(name)) return { spec: registry.plugin(name, "DEVICE") };
  // One that is served is one of virtio's.
  const names = registry.plugins
    .map((spec) => shortName(spec.name))
    .filter((short) => short.startsWith(PREFIX))
    .flatMap((short) => [short.charAt(PREFIX.length).toLowerCase() + short.slice(PREFIX.length + 1), short]);
  const hint = didYouMean(device, names) || `; there are ${names.filter((_, at) => at % 2 === 0).join(", ")}`;
  throw new NorthbridgeError(
    "NB_UNKNOWN_PLUGIN",
    `DEVICE: expected a device's name or a module, found "${device}"${hint}`,
  );
}

/** Of the names of virtio devices. */
const PREFIX = "virtio";

/** `virtioBlk` for `blk`. */
function fullName(name: string, registry: PluginRegistry): string {
  const long = `virtio${name.charAt(0).toUpperCase()}${name.slice(1)}`;
  return !registry.isUniqueShortName(name) && registry.isUniqueShortName(long) ? long : name;
}

async function fromModule(file: string): Promise<RegisteredPlugin> {
  const module = await loadDeviceModule(file);
  const plugins = [...new Set(module.plugins)];
  const [plugin, second] = plugins;
  if (plugin !== undefined && second === undefined) return plugin;
  const found = plugins.map(({ pluginName }) => pluginName).join(", ") || "none";
  throw new NorthbridgeError("NB_CONFIG", `${file}: expected one exported device plugin, found ${found}`);
}

const isEntry = (item: DeviceEntry | DeviceReference): item is DeviceEntry => "spec" in item;

async function fromMachine(device: string, file: string, set: readonly string[]): Promise<FoundEntry> {
  const { config, explain } = await loadMachineConfig(file, set);
  const names: string[] = [];
  for (const [index, entry] of (config.devices ?? []).entries()) {
    if (!entry) continue;
    const name = entry.id ?? (isEntry(entry) ? entry.spec.name : entry.plugin);
    if (name === device)
      return { entry, explain: (error) => explain(eachProblem(error, (one) => movedTo(index, one))) };
    names.push(name);
  }
  throw new NorthbridgeError(
    "NB_CONFIG",
    `${file}: devices: expected one with the id ${device}, found ${names.join(", ") || "none"}`,
  );
}

/** An error of the lone device, at the device's place in its own machine. */
function movedTo(index: number, error: unknown): unknown {
  if (!(error instanceof ConfigError) || !error.configPath.startsWith(LONE)) return error;
  const { code, configPath, message, key, cause } = error;
  const path = `devices[${index}]${configPath.slice(LONE.length)}`;
  return new ConfigError(code, path, message.slice(configPath.length + 2), {
    ...(key !== undefined && { key }),
    cause,
  });
}

/** Bytes of a log as lines. */
function lines(log: (line: string) => void): { write(byte: number): void } {
  let line = "";
  return {
    write: (byte) => {
      if (byte !== 10) line += String.fromCharCode(byte);
      else {
        log(line);
        line = "";
      }
    },
  };
}
