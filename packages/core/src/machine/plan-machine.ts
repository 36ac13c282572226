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
} from "../contracts/index.ts";
import { inOrderOfServices, type PlannedDevice } from "../composition/device-order.ts";
import { planDevices } from "../composition/plan-devices.ts";
import type { PluginRegistry } from "../composition/plugin-registry.ts";
import { ConfigError } from "../config/config-error.ts";
import { parseMachineConfig } from "../config/machine-schema.ts";
import { configuredCpu } from "../cpu/configured-cpu.ts";
import { memoryMap } from "../memory/layout.ts";

const DEFAULT_MACHINE = "pc-1";
const OF_THE_MACHINE: ReadonlySet<symbol> = new Set<symbol>([Console, Log, HostEnds, Entropy]);

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
}

/**
 * Checks all of a config that can be checked without making the machine: `northbridge validate` is this.
 * Throws `ConfigError`, `NB_DUPLICATE_TOKEN` or `NB_CYCLIC_TOKEN`.
 */
export async function planMachine(
  input: unknown,
  registry: PluginRegistry,
  hypervisor: Omit<Hypervisor, "createVm">,
): Promise<MachinePlan> {
  const config = parseMachineConfig(input);
  const type = registry.machineType(config.machine ?? DEFAULT_MACHINE);
  const vcpus = config.vcpus ?? 1;
  expectAtMost("memory.mib", config.memory.mib, hypervisor.limits?.memoryMib, hypervisor.name);
  expectAtMost("vcpus", vcpus, hypervisor.limits?.vcpus, hypervisor.name);
  const cpuModel = configuredCpu(config.cpu, hypervisor);
  const devices = inOrderOfServices(
    await planDevices(config, type, registry),
    (token) => OF_THE_MACHINE.has(token),
    (token) => registry.providerOf(token),
  );
  const map = memoryMap(type.layout ?? "pc", config.memory.mib);
  return { config, type, vcpus, cpuModel, map, devices };
}

function expectAtMost(configPath: string, found: number, limit: number | undefined, backend: string): void {
  if (limit === undefined || found <= limit) return;
  throw new ConfigError(
    "NB_CONFIG",
    configPath,
    `expected at most ${limit}, the limit of the ${backend} backend, found ${found}`,
  );
}
