import { parse } from "yaml";
import { ConfigError, describeValue } from "./config-error.ts";
import { parsePath } from "./path.ts";

type Container = Record<string | number, unknown>;

/**
 * A copy of `config` with one value replaced: `memory.mib=512`, `devices[0].at=com2`. The value is YAML; mappings on
 * the way that are missing are made. Throws `ConfigError`.
 */
export function applyOverride(config: unknown, override: string): unknown {
  const equals = override.indexOf("=");
  const keys = parsePath(override.slice(0, Math.max(equals, 0)));
  const [first] = keys;
  if (first === undefined) {
    throw new ConfigError("NB_CONFIG", "", `--set: expected PATH=VALUE, found ${JSON.stringify(override)}`);
  }
  let value: unknown;
  try {
    value = parse(override.slice(equals + 1));
  } catch {
    value = override.slice(equals + 1);
  }
  return replaced(config, keys, value, override);
}

function replaced(
  inside: unknown,
  keys: readonly (string | number)[],
  value: unknown,
  override: string,
): unknown {
  const [key, ...rest] = keys;
  if (key === undefined) return value;
  if (Array.isArray(inside)) {
    if (typeof key !== "number" || key > inside.length) {
      throw new ConfigError(
        "NB_CONFIG",
        "",
        `--set ${override}: expected an index up to ${inside.length}, found ${key}`,
      );
    }
    const copy: unknown[] = [...(inside as unknown[])];
    copy[key] = replaced(copy[key], rest, value, override);
    return copy;
  }
  if (inside !== undefined && inside !== null && typeof inside !== "object") {
    throw new ConfigError(
      "NB_CONFIG",
      "",
      `--set ${override}: expected a mapping around "${key}", found ${describeValue(inside)}`,
    );
  }
  const copy: Container = { ...(inside as Container | undefined) };
  copy[key] = replaced(copy[key], rest, value, override);
  return copy;
}
