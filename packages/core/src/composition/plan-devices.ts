import type { DeviceEntry, DeviceReference, MachineConfig, MachineType } from "../contracts/index.ts";
import { ConfigError, ConfigProblems } from "../config/config-error.ts";
import { parseWith } from "../config/issue.ts";
import type { PlannedDevice } from "./device-order.ts";
import { type PluginRegistry, shortName } from "./plugin-registry.ts";

const isEntry = (item: DeviceEntry | DeviceReference): item is DeviceEntry => "spec" in item;

interface Candidate {
  readonly entry: DeviceEntry;
  readonly where: string;
}

/**
 * Every device of the machine with its id and checked config: those the machine type implies, then those the config
 * lists. A listed device with an implied one's id replaces it. Throws `ConfigError`, or `ConfigErrors`.
 */
export async function planDevices(
  config: MachineConfig,
  type: MachineType,
  registry: PluginRegistry,
): Promise<readonly PlannedDevice[]> {
  const problems = new ConfigProblems();
  const listed: Candidate[] = [];
  for (const [index, item] of (config.devices ?? []).entries()) {
    if (!item) continue;
    const where = `devices[${index}]`;
    const entry = isEntry(item) ? item : await problems.check(() => registry.resolve(item, where));
    if (entry !== undefined) listed.push({ entry, where });
  }

  const claimed = new Map<string, string>();
  for (const { entry, where } of listed) {
    if (entry.id === undefined) continue;
    const other = claimed.get(entry.id);
    if (other !== undefined) {
      problems.note(
        new ConfigError("NB_DUPLICATE_ID", `${where}.id`, `"${entry.id}" is the id of ${other} already`),
      );
    }
    claimed.set(entry.id, where);
  }

  const planned = new Map<string, PlannedDevice>();
  const plan = async ({ entry, where }: Candidate): Promise<void> => {
    const { spec, input } = entry;
    const id = entry.id ?? freeId(shortName(spec.name), (name) => planned.has(name) || claimed.has(name));
    await problems.check(async () => {
      const checked = await parseWith(spec.config, input, where);
      await registry.hostEnds.check(spec.ends, checked, where);
      planned.set(id, { id, spec, config: checked, where });
    });
  };
  for (const entry of type.devices(config)) {
    const isReplaced = entry.id !== undefined && claimed.has(entry.id);
    if (!isReplaced) await plan({ entry, where: `${type.name}'s ${entry.id ?? entry.spec.name}` });
  }
  for (const candidate of listed) await plan(candidate);
  problems.settle();
  return [...planned.values()];
}

/** `serial`, then `serial-1`, `serial-2` … */
function freeId(base: string, isTaken: (id: string) => boolean): string {
  if (!isTaken(base)) return base;
  let number = 1;
  while (isTaken(`${base}-${number}`)) number++;
  return `${base}-${number}`;
}
