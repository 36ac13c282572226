import { readFile } from "node:fs/promises";
import { dirname, extname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { type HostEndKind, type MachineConfig, NorthbridgeError } from "../contracts/index.ts";
import { isHostEndKind } from "../composition/host-end-kinds.ts";
import { fileErrorReason } from "../host/file-error.ts";
import { moduleErrorReason } from "../host/module-error.ts";
import { ConfigError, ConfigErrors, errorOf } from "./config-error.ts";
import { applyOverrides, overrideBehind } from "./override.ts";
import { parseMachineConfig } from "./machine-schema.ts";
import type { ParsedText } from "./config-text.ts";

/** A machine config and the file it came from. */
export interface LoadedConfig {
  readonly config: MachineConfig;
  /** As the user wrote it. */
  readonly file: string;
  /** Absolute; paths of the config are relative to it and have been resolved. */
  readonly directory: string;
  /** Kinds of host ends that the module exports beside the config: a registry has to know them. */
  readonly hostEnds: readonly HostEndKind[];
  /** The same error with the file, and the line where the file has lines, in front. Others are returned as they are. */
  readonly explain: (error: unknown) => unknown;
}

interface Source extends ParsedText {
  readonly hostEnds: readonly HostEndKind[];
}

const MODULE = new Set([".ts", ".mts", ".js", ".mjs"]);

/**
 * Reads a machine config: YAML, JSON, or a module that exports it as `default` or `config`. Throws `NB_CONFIG`.
 * @param overrides `PATH=VALUE`, applied before checking; the value is YAML
 */
export async function loadMachineConfig(
  file: string,
  overrides: readonly string[] = [],
): Promise<LoadedConfig> {
  const absolute = resolve(file);
  const source = MODULE.has(extname(file).toLowerCase())
    ? await fromModule(file, absolute)
    : await fromText(file, absolute);
  const explain = explainer(overrides, (error) => {
    const position = source.locate(error.configPath, error.key);
    return `${file}${position === undefined ? "" : `:${position}`}`;
  });
  try {
    const value = await applyOverrides(source.value, overrides);
    const directory = dirname(absolute);
    const config = withAbsolutePaths(parseMachineConfig(value), directory);
    return { config, file, directory, hostEnds: source.hostEnds, explain };
  } catch (error) {
    throw explain(error);
  }
}

/**
 * Puts in front of an error of a config where its mistake is: the `--set` that made it, or what `placeOf` says. Several
 * errors in one are explained each; other errors are returned as they are.
 */
export function explainer(
  overrides: readonly string[],
  placeOf: (error: ConfigError) => string | undefined,
): (error: unknown) => unknown {
  const explain = (error: ConfigError): NorthbridgeError => {
    const place = overrideBehind(error, overrides) ?? placeOf(error);
    if (place === undefined) return error;
    return new NorthbridgeError(error.code, `${place}: ${error.message}`, { cause: error });
  };
  return (error) => {
    if (error instanceof ConfigError) return explain(error);
    if (!(error instanceof ConfigErrors)) return error;
    return errorOf(error.errors.map((one) => (one instanceof ConfigError ? explain(one) : one)));
  };
}

function withAbsolutePaths(config: MachineConfig, directory: string): MachineConfig {
  const { boot, devices } = config;
  return {
    ...config,
    ...(boot && {
      boot: {
        ...boot,
        ...(boot.kernel !== undefined && { kernel: resolve(directory, boot.kernel) }),
        ...(boot.initrd !== undefined && { initrd: resolve(directory, boot.initrd) }),
        ...(boot.flat && { flat: { ...boot.flat, image: resolve(directory, boot.flat.image) } }),
      },
    }),
    ...(devices && {
      devices: devices.map((device) => {
        if (!device) return device;
        if (!("spec" in device)) return withAbsolutePath(device, directory) as typeof device;
        return { ...device, input: withAbsolutePath(device.input, directory) };
      }),
    }),
  };
}

/** Whatever a device's options call `path` is a file of the host. */
function withAbsolutePath(options: unknown, directory: string): unknown {
  if (Array.isArray(options)) return options.map((item) => withAbsolutePath(item, directory));
  if (typeof options !== "object" || options === null) return options;
  if (Object.getPrototypeOf(options) !== Object.prototype) return options;
  return Object.fromEntries(
    Object.entries(options).map(([key, value]) => [
      key,
      key === "path" && typeof value === "string"
        ? resolve(directory, value)
        : withAbsolutePath(value, directory),
    ]),
  );
}

async function fromText(file: string, absolute: string): Promise<Source> {
  let text: string;
  try {
    text = await readFile(absolute, "utf8");
  } catch (error) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${file}: cannot read the machine config: ${fileErrorReason(error)}`,
      {
        cause: error,
      },
    );
  }
  const { parseText } = await import("./config-text.ts"); // brings the YAML library
  return { ...parseText(file, text), hostEnds: [] };
}

async function fromModule(file: string, absolute: string): Promise<Source> {
  let module: Readonly<Record<string, unknown>>;
  try {
    module = (await import(pathToFileURL(absolute).href)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${file}: cannot load the machine config: ${moduleErrorReason(error, absolute)}`,
      {
        cause: error,
      },
    );
  }
  const value = module["default"] ?? module["config"];
  if (value === undefined) {
    const found = Object.keys(module);
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${file}: expected a default export or an export called config, found ${found.length > 0 ? found.join(", ") : "no export"}`,
    );
  }
  return { value, hostEnds: Object.values(module).filter(isHostEndKind), locate: () => undefined };
}
