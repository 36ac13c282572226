export { kvmHypervisor } from "./hypervisor.ts";
export { type KvmFinding, type KvmProbe, probeKvm } from "./probe/probe.ts";
export type { EmulationFailure, EmulationFailureHook, Resumption } from "./vcpu/emulation-failure.ts";
export type { KvmOptions } from "./vm/kvm-vm.ts";
export { type GuestProbe, probeGuest } from "./probe/guest-probe.ts";
