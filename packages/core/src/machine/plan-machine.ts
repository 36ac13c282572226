import {
  Console,
  type CpuModel,
  Entropy,
  HostEnds,
  type Hypervisor,
  Log,
  type MachineConfig,
  type MachineType,
  type MemoryMapEntry,
  ReclaimPages,
} from "../contracts/index.ts";
import { inOrderOfServices, type PlannedDevice } from "../composition/device-order.ts";
import { planDevices } from "../composition/plan-devices.ts";
import { bare1, type PluginRegistry } from "../composition/plugin-registry.ts";
import { ConfigError, ConfigProblems } from "../config/config-error.ts";
import { parseMachineConfig } from "../config/machine-schema.ts";
import { configuredCpu } from "../cpu/configured-cpu.ts";
import { memoryMap } from "../memory/layout.ts";
import { type OwnMemory, placeOwnMemory } from "./own-memory.ts";

const DEFAULT_MACHINE = "pc-1";
const OF_THE_MACHINE: ReadonlySet<symbol> = new Set<symbol>([Console, Log, HostEnds, Entropy, ReclaimPages]);

/** A config that has been checked through and through. */
export interface MachinePlan {
  readonly config: MachineConfig;
  readonly type: MachineType;
  readonly vcpus: number;
  /** Undefined: the backend's default. */
  readonly cpuModel: CpuModel | undefined;
  readonly map: readonly MemoryMapEntry[];
  /** In the order in which they are set up. */
  readonly devices: readonly PlannedDevice[];
  /** Memory that devices bring. */
  readonly owned: readonly OwnMemory[];
}

/**
 * Checks all of a config that can be checked without making the machine: `northbridge validate` is this.
 * Throws `ConfigError`, or `ConfigErrors` where there are several problems.
 */
export async function planMachine(
  input: unknown,
  registry: PluginRegistry,
  hypervisor: Omit<Hypervisor, "createVm">,
): Promise<MachinePlan> {
  const config = parseMachineConfig(input);
  const vcpus = config.vcpus ?? 1;
  const { limits, name: backend } = hypervisor;
  const problems = new ConfigProblems();
  const type = await problems.check(() => registry.machineType(config.machine ?? DEFAULT_MACHINE));
  await problems.check(() => expectAtMost("memory.mib", config.memory.mib, limits?.memoryMib, backend));
  await problems.check(() => expectAtMost("vcpus", vcpus, limits?.vcpus, backend));
  const cpuModel = await problems.check(() => configuredCpu(config.cpu, hypervisor));
  const planned = await problems.check(() => planDevices(config, type ?? bare1, registry));
  problems.settle();
  if (type === undefined || planned === undefined) throw new Error("unreachable: a problem was found");
  const devices = inOrderOfServices(
    planned,
    (token) => OF_THE_MACHINE.has(token),
    (token) => registry.providerOf(token),
  );
  const map = memoryMap(type.layout ?? "pc", config.memory.mib);
  const owned = placeOwnMemory(map, devices);
  const ownMib = Math.ceil(owned.reduce((sum, { place }) => sum + place.length, 0) / 2 ** 20);
  if (limits?.memoryMib !== undefined && config.memory.mib + ownMib > limits.memoryMib) {
    throw new ConfigError(
      "NB_CONFIG",
      "memory.mib",
      `expected at most ${limits.memoryMib}, the limit of the ${backend} backend, with the ${ownMib} MiB that devices bring, found ${config.memory.mib + ownMib}`,
    );
  }
  return { config, type, vcpus, cpuModel, map, devices, owned };
}

function expectAtMost(configPath: string, found: number, limit: number | undefined, backend: string): void {
  if (limit === undefined || found <= limit) return;
  throw new ConfigError(
    "NB_CONFIG",
    configPath,
    `expected at most ${limit}, the limit of the ${backend} backend, found ${found}`,
  );
}
