import { existsSync, readFileSync } from "node:fs";
import { isHostEndKind, PluginRegistry } from "@northbridge/core";
import type { Hypervisor, MachineType } from "@northbridge/core/contracts";
import * as devicesLegacy from "@northbridge/devices-legacy";
import * as devicesVirtio from "@northbridge/devices-virtio";
import * as netTap from "@northbridge/net-tap";
import { softHypervisor } from "@northbridge/soft-backend";
import * as storageQcow2 from "@northbridge/storage-qcow2";
import { isPlugin } from "./device/load-device-module.ts";
import * as hostEnds from "./host-ends.ts";
import * as frontEnds from "./vhost-user/front-end-plugins.ts";

const isMachineType = (value: unknown): value is MachineType =>
  typeof value === "object" && value !== null && "devices" in value && "name" in value;

/** The plugins, machine types and host ends that come with the command: whatever these packages export. */
export function builtInRegistry(): PluginRegistry {
  const packages: readonly object[] = [
    devicesLegacy,
    devicesVirtio,
    netTap,
    storageQcow2,
    hostEnds,
    frontEnds,
  ];
  const exported = packages.flatMap((exports): unknown[] => Object.values(exports));
  return new PluginRegistry(
    exported.filter(isPlugin),
    exported.filter(isMachineType),
    exported.filter(isHostEndKind),
  );
}

/**
 * The backend of that name. `auto` is KVM where a probe finds that it can run kernels, and the software CPU elsewhere;
 * `say` hears which and why. KVM's package is loaded only where it is asked for.
 */
export function builtInHypervisor(name: "soft"): Hypervisor;
export function builtInHypervisor(
  name: "auto" | "kvm" | "soft",
  say?: (line: string) => void,
): Hypervisor | Promise<Hypervisor>;
export function builtInHypervisor(
  name: "auto" | "kvm" | "soft",
  say?: (line: string) => void,
): Hypervisor | Promise<Hypervisor> {
  switch (name) {
    case "soft":
      return softHypervisor();
    case "kvm":
      if (!hasVirtualization())
        say?.(
          "backend: KVM, which emulates kernels on this processor without VT-x or SVM: expect it to crawl",
        );
      return import("@northbridge/kvm-backend").then(({ kvmHypervisor }) => kvmHypervisor());
    case "auto":
      return bestHypervisor(say ?? (() => undefined));
  }
}

async function bestHypervisor(say: (line: string) => void): Promise<Hypervisor> {
  const obstacle = await obstacleToKvm();
  if (obstacle !== undefined) {
    say(`backend: the software CPU, since ${obstacle}`);
    return softHypervisor();
  }
  say("backend: KVM, which executes what kernels need");
  return builtInHypervisor("kvm"); // quietly: there is no obstacle
}

/** Why KVM is no choice here, cheapest question first; `undefined` where it is one. */
async function obstacleToKvm(): Promise<string | undefined> {
  if (!existsSync("/dev/kvm")) return "there is no /dev/kvm";
  if (!hasVirtualization())
    return "this processor shows neither VT-x nor SVM, so KVM would emulate the kernel";
  const { probeGuest } = await import("@northbridge/kvm-backend");
  const { findings } = await probeGuest();
  const missing = findings.find(({ ok }) => !ok);
  return missing && `KVM cannot run kernels here: ${missing.what}: ${missing.detail}`;
}

/** Flags `vmx` and `svm` of the processor; true where they cannot be read. */
function hasVirtualization(): boolean {
  try {
    return /^flags\s*:.* (vmx|svm)( |$)/m.test(readFileSync("/proc/cpuinfo", "latin1"));
  } catch {
    return true;
  }
}
