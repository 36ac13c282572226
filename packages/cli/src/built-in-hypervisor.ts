import { existsSync, readFileSync } from "node:fs";
import type { Hypervisor } from "@northbridge/core/contracts";
import { softHypervisor } from "@northbridge/soft-backend";

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
      return kvm(say ?? (() => undefined));
    case "auto":
      return bestHypervisor(say ?? (() => undefined));
  }
}

async function kvm(say: (line: string) => void): Promise<Hypervisor> {
  const { kvmHypervisor, probeKvm } = await import("@northbridge/kvm-backend");
  // Where there is no KVM, that is what the machine's creation says.
  if (!hasVirtualization() && probeKvm().usable)
    say("backend: KVM, which emulates kernels on this processor without VT-x or SVM: expect it to crawl");
  return kvmHypervisor();
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
