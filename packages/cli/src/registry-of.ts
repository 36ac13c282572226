import { isHostEndKind, PluginRegistry } from "@northbridge/core";
import type { MachineType } from "@northbridge/core/contracts";
import { isPlugin } from "./device/load-device-module.ts";

const isMachineType = (value: unknown): value is MachineType =>
  typeof value === "object" && value !== null && "devices" in value && "name" in value;

/** A registry of whatever these modules export. */
export function registryOf(modules: readonly object[]): PluginRegistry {
  const exported = modules.flatMap((exports): unknown[] => Object.values(exports));
  return new PluginRegistry(
    exported.filter(isPlugin),
    exported.filter(isMachineType),
    exported.filter(isHostEndKind),
  );
}
