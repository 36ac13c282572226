import { ioctl, ioctlBuffer, RootedBuffer } from "@northbridge/linux";
import type { CpuidLeaf, CpuModel } from "@northbridge/sdk";
import { leavesOf } from "./cpuid-of-vcpu.ts";
import { Capability, Request, SizeOf } from "./spec.ts";
import { tscRate } from "./tsc-rate.ts";

const MAX_ENTRIES = 256;
const SIGNIFICANT_INDEX = 1;

interface Entry extends CpuidLeaf {
  readonly flags: number;
}

/** Bits of leaves 1 and 8000_0001h, ECX (SDM 2A, CPUID; AMD APM 3, appendix E). */
const HYPERVISOR = 1 << 31;
const TSC_DEADLINE = 1 << 24;
const VMX = 1 << 5;
const SVM = 1 << 2;

/**
 * What this KVM can show a guest (`KVM_GET_SUPPORTED_CPUID`), and what it can without saying so there: Linux before
 * 6.14 lists neither the hypervisor bit nor the deadline timer. Without VMX and SVM, whose state is not saved.
 */
export function supportedCpuid(kvm: number): readonly CpuidLeaf[] {
  const hasDeadline =
    ioctl(kvm, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_TSC_DEADLINE_TIMER, "the deadline timer") > 0;
  return listedCpuid(kvm).map((entry) => {
    const { ecx } = entry;
    switch (entry.leaf >>> 0) {
      case 1:
        return { ...entry, ecx: ((ecx & ~VMX) | HYPERVISOR | (hasDeadline ? TSC_DEADLINE : 0)) >>> 0 };
      case 0x8000_0001:
        return { ...entry, ecx: (ecx & ~SVM) >>> 0 };
      default:
        return entry;
    }
  });
}

function listedCpuid(kvm: number): readonly CpuidLeaf[] {
  const buffer = new RootedBuffer(SizeOf.kvm_cpuid2 + SizeOf.kvm_cpuid_entry2 * MAX_ENTRIES);
  const { view } = buffer;
  view.setUint32(0, MAX_ENTRIES, true);
  ioctlBuffer(kvm, Request.KVM_GET_SUPPORTED_CPUID, buffer, "KVM_GET_SUPPORTED_CPUID");
  return Array.from({ length: view.getUint32(0, true) }, (_, i) => {
    const at = SizeOf.kvm_cpuid2 + SizeOf.kvm_cpuid_entry2 * i;
    const word = (index: number): number => view.getUint32(at + 4 * index, true);
    const isIndexed = (word(2) & SIGNIFICANT_INDEX) !== 0;
    return {
      leaf: word(0),
      subleaf: isIndexed ? word(1) : undefined,
      eax: word(3),
      ebx: word(4),
      ecx: word(5),
      edx: word(6),
    };
  });
}

/** What a guest without a local APIC must not be told of, as bits of CPUID registers (SDM 2A; KVM: cpuid.rst). */
const LOCAL_APIC_CLAIMS: readonly (readonly [
  leaf: number,
  register: "eax" | "ecx" | "edx",
  ...bits: number[],
])[] = [
  [1, "ecx", 21, 24], // x2APIC, TSC-deadline
  [1, "edx", 9], // APIC
  [6, "eax", 2], // ARAT
  [0x80000001, "ecx", 3], // ExtApicSpace
  [0x80000001, "edx", 9], // APIC, AMD's
  [0x40000001, "eax", 4, 6, 7, 9, 10, 11, 13, 14, 15], // async page faults, EOI, spin locks, IPIs, message ids
];

/** The model of a processor without a local APIC. */
export function withoutLocalApic(model: CpuModel): CpuModel {
  const leaves = model.leaves.map((entry) =>
    LOCAL_APIC_CLAIMS.filter(([leaf]) => leaf === entry.leaf >>> 0).reduce(
      (rest, [, register, ...bits]) => ({
        ...rest,
        [register]: bits.reduce((value, bit) => (value & ~(1 << bit)) >>> 0, rest[register]),
      }),
      entry,
    ),
  );
  return { name: model.name, leaves };
}

/** Gives one vCPU, of so many, its CPUID. Its counter has its rate already. */
export function setCpuid(vcpu: number, index: number, model: CpuModel, vcpus: number): void {
  const tscKhz = tscRate(vcpu);
  const entries = leavesOf(model, { index, vcpus, tscKhz }).map(
    (leaf): Entry => ({ ...leaf, flags: leaf.subleaf === undefined ? 0 : SIGNIFICANT_INDEX }),
  );
  const buffer = new RootedBuffer(SizeOf.kvm_cpuid2 + SizeOf.kvm_cpuid_entry2 * entries.length);
  buffer.view.setUint32(0, entries.length, true);
  entries.forEach(({ leaf, subleaf, flags, eax, ebx, ecx, edx }, i) => {
    [leaf, subleaf ?? 0, flags, eax, ebx, ecx, edx].forEach((word, j) => {
      buffer.view.setUint32(SizeOf.kvm_cpuid2 + SizeOf.kvm_cpuid_entry2 * i + 4 * j, word >>> 0, true);
    });
  });
  ioctlBuffer(vcpu, Request.KVM_SET_CPUID2, buffer, `vCPU ${index}: KVM_SET_CPUID2`);
}
