import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { fileErrorReason, type RegisteredPlugin } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import { RegisterMap, type RegisterSpecs } from "@northbridge/sdk";

/** What a module of a device author exports. */
export interface DeviceModule {
  readonly plugins: readonly RegisteredPlugin[];
  /** By the name of the map. */
  readonly registers: ReadonlyMap<string, RegisterMap<RegisterSpecs>>;
}

/**
 * Loads a module with plugins and register maps among its exports. Throws `NB_CONFIG`.
 * @param version makes a changed file load anew
 */
export async function loadDeviceModule(file: string, version?: string): Promise<DeviceModule> {
  const url = pathToFileURL(resolve(file));
  if (version !== undefined) url.searchParams.set("version", version);
  let exported: readonly unknown[];
  try {
    exported = Object.values((await import(url.href)) as Readonly<Record<string, unknown>>);
  } catch (error) {
    throw new NorthbridgeError("NB_CONFIG", `${file}: cannot load the module: ${fileErrorReason(error)}`, {
      cause: error,
    });
  }
  return {
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
