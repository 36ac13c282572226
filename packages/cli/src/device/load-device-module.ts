import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { moduleErrorReason, type RegisteredPlugin } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import { RegisterMap, type RegisterSpecs } from "@northbridge/sdk";

/** What a module of a device author exports. */
export interface DeviceModule {
  readonly plugins: readonly RegisteredPlugin[];
  /** By the name of the map. */
  readonly registers: ReadonlyMap<string, RegisterMap<RegisterSpecs>>;
  /** What the module calls them. */
  readonly exportNames: ReadonlyMap<unknown, string>;
}

/**
 * Loads a module with plugins and register maps among its exports. Throws `NB_CONFIG`.
 * @param version makes a changed file load anew
 */
export async function loadDeviceModule(file: string, version?: string): Promise<DeviceModule> {
  const url = pathToFileURL(resolve(file));
  if (version !== undefined) url.searchParams.set("version", version);
  let module: Readonly<Record<string, unknown>>;
  try {
    module = (await import(url.href)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${file}: cannot load the module: ${moduleErrorReason(error, resolve(file))}`,
      {
        cause: error,
      },
    );
  }
  const exported = Object.values(module);
  return {
    exportNames: new Map(Object.entries(module).map(([name, value]) => [value, name])),
    plugins: exported.filter(isPlugin),
    registers: new Map(
      exported
        .filter((value) => value instanceof RegisterMap)
        .map((map: RegisterMap<RegisterSpecs>) => [map.name, map]),
    ),
  };
}

/** Whether a module's export is what `definePlugin` makes. */
export const isPlugin = (value: unknown): value is RegisteredPlugin =>
  typeof value === "function" && "pluginName" in value && "spec" in value;
