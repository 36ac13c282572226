import { resolve } from "node:path";
import { type DeviceEntry, NorthbridgeError } from "../contracts/index.ts";
import { type ConfigError, describeValue } from "./config-error.ts";
import { parsePath } from "./path.ts";

type Container = Record<string | number, unknown>;

/**
 * A copy of `config` with one value replaced by each override: `memory.mib=512`, `devices[0].at=com2`. The values are
 * YAML; mappings and lists on the way that are missing are made. Files are relative to the working directory, where the
 * command line is. Throws `NB_CONFIG`.
 */
export async function applyOverrides(config: unknown, overrides: readonly string[]): Promise<unknown> {
  if (overrides.length === 0) return config;
  const { parse } = await import("yaml"); // a fair part of a start, for who needs it
  return overrides.reduce((before, override) => applied(before, override, parse), config);
}

function applied(config: unknown, override: string, parse: (text: string) => unknown): unknown {
  const equals = override.indexOf("=");
  const keys = parsePath(override.slice(0, Math.max(equals, 0)));
  const [first] = keys;
  if (first === undefined) {
    throw new NorthbridgeError("NB_CONFIG", `--set: expected PATH=VALUE, found ${JSON.stringify(override)}`);
  }
  let value: unknown;
  try {
    value = parse(override.slice(equals + 1));
  } catch {
    value = override.slice(equals + 1);
  }
  return replaced(config, keys, filesFromHere(keys, value), override);
}

const IMAGES: readonly string[] = ["boot.kernel", "boot.initrd", "boot.flat.image"];

/** The value with the files that it names made absolute. */
function filesFromHere(keys: readonly (string | number)[], value: unknown): unknown {
  if (typeof value === "string")
    return keys.at(-1) === "path" || IMAGES.includes(keys.join(".")) ? resolve(value) : value;
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item: unknown, index) => filesFromHere([...keys, index], item));
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, filesFromHere([...keys, key], item)]),
  );
}

/** The override that gave the value at fault, as the command line has it: the last one that did. */
export function overrideBehind(error: ConfigError, overrides: readonly string[]): string | undefined {
  const { configPath, key } = error;
  const place = [...parsePath(configPath), ...(key === undefined ? [] : [key])];
  const override = overrides.findLast((text) => {
    const keys = parsePath(text.slice(0, Math.max(text.indexOf("="), 0)));
    return keys.length <= place.length && keys.every((part, index) => part === place[index]);
  });
  return override === undefined ? undefined : `--set ${override}`;
}

/** Parts of a device that a module made (`DeviceEntry`). */
const ENTRY: ReadonlySet<string | number> = new Set<keyof DeviceEntry>(["spec", "input", "id"]);

const isEntry = ({ spec }: Container): boolean =>
  typeof spec === "object" && spec !== null && "setup" in spec && typeof spec.setup === "function";

function replaced(
  inside: unknown,
  keys: readonly (string | number)[],
  value: unknown,
  override: string,
): unknown {
  const [key, ...rest] = keys;
  if (key === undefined) return value;
  const list = inside ?? (typeof key === "number" ? [] : undefined);
  if (Array.isArray(list)) {
    if (typeof key !== "number" || key > list.length) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `--set ${override}: expected an index up to ${list.length}, found ${key}`,
      );
    }
    const copy: unknown[] = [...(list as unknown[])];
    copy[key] = replaced(copy[key], rest, value, override);
    return copy;
  }
  if (inside !== undefined && inside !== null && typeof inside !== "object") {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `--set ${override}: expected a mapping around "${key}", found ${describeValue(inside)}`,
    );
  }
  const copy: Container = { ...(inside as Container | undefined) };
  // A device of a module: what data would say of it, and `--set` says, is its input.
  if (isEntry(copy) && !ENTRY.has(key)) {
    copy["input"] = replaced(copy["input"], keys, value, override);
    return copy;
  }
  copy[key] = replaced(copy[key], rest, value, override);
  return copy;
}
