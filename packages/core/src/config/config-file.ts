import { readFile } from "node:fs/promises";
import { dirname, extname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { type Document, isNode, LineCounter, parseDocument } from "yaml";
import { type MachineConfig, NorthbridgeError } from "../contracts/index.ts";
import { fileErrorReason } from "../host/file-error.ts";
import { ConfigError } from "./config-error.ts";
import { applyOverride } from "./override.ts";
import { parseMachineConfig } from "./machine-schema.ts";
import { parsePath } from "./path.ts";

/** A machine config and the file it came from. */
export interface LoadedConfig {
  readonly config: MachineConfig;
  /** As the user wrote it. */
  readonly file: string;
  /** Absolute; paths of the config are relative to it and have been resolved. */
  readonly directory: string;
  /** The same error with the file, and the line where the file has lines, in front. Others are returned as they are. */
  readonly explain: (error: unknown) => unknown;
}

interface Source {
  readonly value: unknown;
  /** `4:8`, where the text has the value at this path or something around it. */
  locate(configPath: string): string | undefined;
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
  const explain = (error: unknown): unknown => {
    if (!(error instanceof ConfigError)) return error;
    const position = source.locate(error.configPath);
    return new NorthbridgeError(
      error.code,
      `${file}${position === undefined ? "" : `:${position}`}: ${error.message}`,
      {
        cause: error,
      },
    );
  };
  try {
    const value = overrides.reduce(applyOverride, source.value);
    const directory = dirname(absolute);
    return { config: withAbsolutePaths(parseMachineConfig(value), directory), file, directory, explain };
  } catch (error) {
    throw explain(error);
  }
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
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [broken] = document.errors;
  if (broken !== undefined) {
    const { line, col } = lines.linePos(broken.pos[0]);
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${file}:${line}:${col}: expected YAML or JSON: ${broken.message}`,
      {
        cause: broken,
      },
    );
  }
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    // Too many aliases.
    throw new NorthbridgeError("NB_CONFIG", `${file}: ${fileErrorReason(error)}`, { cause: error });
  }
  return { value, locate: (path) => locate(document, lines, path) };
}

function locate(document: Document, lines: LineCounter, configPath: string): string | undefined {
  const keys = parsePath(configPath);
  for (let length = keys.length; length >= 0; length--) {
    const node = document.getIn(keys.slice(0, length), true);
    if (!isNode(node) || !node.range) continue;
    const { line, col } = lines.linePos(node.range[0]);
    return `${line}:${col}`;
  }
  return undefined;
}

async function fromModule(file: string, absolute: string): Promise<Source> {
  let module: Readonly<Record<string, unknown>>;
  try {
    module = (await import(pathToFileURL(absolute).href)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${file}: cannot load the machine config: ${fileErrorReason(error)}`,
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
  return { value, locate: () => undefined };
}
