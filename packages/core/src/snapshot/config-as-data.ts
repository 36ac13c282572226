import type { DeviceEntry, MachineConfig } from "../contracts/index.ts";

/**
 * The config as JSON can hold it: entries become references by the names of their plugins, so that it can be read without
 * its module. Undefined where it holds what is no data: functions, instances of classes, circles.
 */
export function configAsData(config: MachineConfig): unknown {
  const asReference = ({ spec, id, input }: DeviceEntry): unknown => ({
    plugin: spec.name,
    ...(id !== undefined && { id }),
    ...(typeof input === "object" ? input : {}),
  });
  const devices = config.devices?.map((item) =>
    item && "spec" in item ? asReference(item as DeviceEntry) : item || null,
  );
  const data = { ...config, ...(devices && { devices }) };
  return isData(data, []) ? data : undefined;
}

function isData(value: unknown, above: readonly object[]): boolean {
  switch (typeof value) {
    case "string":
    case "boolean":
    case "bigint":
    case "undefined":
      return true;
    case "number":
      return Number.isFinite(value);
    case "object":
      break;
    default:
      return false;
  }
  if (value === null) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (!Array.isArray(value) && prototype !== Object.prototype && prototype !== null) return false;
  return !above.includes(value) && Object.values(value).every((part) => isData(part, [...above, value]));
}
