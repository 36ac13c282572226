import { close, ioctl, MOST_MAPPED_BYTES, open, OpenFlag } from "@northbridge/linux";
import {
  type CpuidLeaf,
  type CpuModel,
  type Hypervisor,
  missingFeatures,
  NorthbridgeError,
  type VirtualMachine,
  type VmOptions,
  x86_64V2,
} from "@northbridge/sdk";
import { supportedCpuid } from "./abi/cpuid.ts";
import { Capability, Request } from "./abi/spec.ts";
import { probeKvm } from "./probe/probe.ts";
import { type KvmOptions, KvmVm } from "./vm/kvm-vm.ts";

/** Ids of local APICs have eight bits, and 255 is all of them: more would take x2APIC ids in messages. */
const MOST_VCPUS = 254;

/**
 * The backend on `/dev/kvm`: a vCPU is a thread of this process. Throws `NB_BACKEND`, saying what is missing, where
 * this host has no usable KVM.
 */
export function kvmHypervisor(options: KvmOptions = {}): Hypervisor {
  return {
    name: "kvm",
    limits: { memoryMib: MOST_MAPPED_BYTES / 2 ** 20, vcpus: MOST_VCPUS },
    cpuModels: () => [{ name: "host", leaves: leavesOfHost() }, x86_64V2],
    unmetClaims,
    createVm: (vm) => createVm(vm, options),
  };
}

/** What this KVM shows a guest where nobody asks for anything else. Throws `NB_BACKEND` where there is no KVM. */
function leavesOfHost(): readonly CpuidLeaf[] {
  const kvm = open("/dev/kvm", OpenFlag.O_RDWR);
  try {
    return supportedCpuid(kvm);
  } finally {
    close(kvm);
  }
}

/** What a model claims and this KVM cannot show a guest, by Linux's names. Throws `NB_BACKEND` where there is no KVM. */
function unmetClaims(model: CpuModel): readonly string[] {
  return missingFeatures(model, { name: "host", leaves: leavesOfHost() });
}

async function createVm(options: VmOptions, how: KvmOptions): Promise<VirtualMachine> {
  const { usable, findings } = probeKvm();
  if (!usable) {
    const missing = findings.filter(({ ok }) => !ok).map(({ what, detail }) => `${what}: ${detail}`);
    throw new NorthbridgeError("NB_BACKEND", `KVM cannot be used: ${missing.join("; ")}`);
  }
  if (options.clock.kind === "virtual") {
    throw new NorthbridgeError(
      "NB_BACKEND",
      "clock: KVM runs guests on the host's time; expected realtime, found virtual",
    );
  }
  if (how.kernelPit === true && how.irqchip !== undefined && how.irqchip !== "kernel") {
    throw new NorthbridgeError(
      "NB_BACKEND",
      `kernelPit: the kernel's i8254 needs its interrupt controllers; expected irqchip kernel, found ${how.irqchip}`,
    );
  }
  if (how.irqchip === "none" && options.vcpus !== 1) {
    throw new NorthbridgeError(
      "NB_BACKEND",
      `vcpus: without local APICs (irqchip none) a machine has 1, found ${options.vcpus}`,
    );
  }
  const lacked = options.cpuModel === undefined ? [] : unmetClaims(options.cpuModel);
  if (lacked.length > 0) {
    throw new NorthbridgeError(
      "NB_BACKEND",
      `CPU model ${options.cpuModel?.name ?? ""}: claims what this KVM lacks: ${lacked.join(", ")}`,
    );
  }
  const kvm = open("/dev/kvm", OpenFlag.O_RDWR);
  try {
    const most = Math.min(
      ioctl(kvm, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_MAX_VCPUS, "KVM_CAP_MAX_VCPUS"),
      MOST_VCPUS,
    );
    if (!Number.isInteger(options.vcpus) || options.vcpus < 1 || options.vcpus > most)
      throw new NorthbridgeError("NB_BACKEND", `vcpus: this KVM has 1 to ${most}, found ${options.vcpus}`);
    return await KvmVm.create(kvm, options, how);
  } finally {
    close(kvm);
  }
}
