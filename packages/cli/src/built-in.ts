import { PluginRegistry, type RegisteredPlugin } from "@northbridge/core";
import { type Hypervisor, type MachineType, NorthbridgeError } from "@northbridge/core/contracts";
import * as devicesLegacy from "@northbridge/devices-legacy";
import * as devicesVirtio from "@northbridge/devices-virtio";
import { softHypervisor } from "@northbridge/soft-backend";

const isPlugin = (value: unknown): value is RegisteredPlugin =>
  typeof value === "function" && "pluginName" in value && "spec" in value;

const isMachineType = (value: unknown): value is MachineType =>
  typeof value === "object" && value !== null && "devices" in value && "name" in value;

/** The plugins and machine types that come with the command: whatever the device packages export. */
export function builtInRegistry(): PluginRegistry {
  const exported: readonly unknown[] = [...Object.values(devicesLegacy), ...Object.values(devicesVirtio)];
  return new PluginRegistry(exported.filter(isPlugin), exported.filter(isMachineType));
}

/** The backend of that name. `auto` is the best one this version has. Throws `NB_CONFIG`. */
export function builtInHypervisor(name: "auto" | "kvm" | "soft"): Hypervisor {
  if (name === "kvm") {
    throw new NorthbridgeError("NB_CONFIG", "backend: this version has no KVM backend; use soft or auto");
  }
  return softHypervisor();
}
