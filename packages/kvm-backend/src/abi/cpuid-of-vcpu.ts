import { type CpuidLeaf, type CpuModel, withTopology } from "@northbridge/sdk";

/** What of CPUID depends on the machine and on the processor in it. */
export interface VcpuPlace {
  /** The processor's number, which is its APIC id. */
  readonly index: number;
  readonly vcpus: number;
  readonly tscKhz: number;
}

/** Of the local APIC's timer in KVM, and the crystal that a model with leaf 15H counts in. */
const APIC_TIMER_KHZ = 1e6;

/** A model's leaves with what depends on the vCPU filled in: its topology, and rates (SDM 2A, CPUID leaves 15H, 16H). */
export function leavesOf(model: CpuModel, { index, vcpus, tscKhz }: VcpuPlace): readonly CpuidLeaf[] {
  return withTopology(model.leaves, { apicId: index, vcpus }).map((leaf) => withRates(leaf, tscKhz));
}

function withRates(leaf: CpuidLeaf, tscKhz: number): CpuidLeaf {
  if (leaf.eax === 0) return leaf;
  switch (leaf.leaf) {
    case 0x15:
      return { ...leaf, eax: APIC_TIMER_KHZ, ebx: tscKhz, ecx: APIC_TIMER_KHZ * 1000 };
    case 0x16:
      return { ...leaf, eax: Math.round(tscKhz / 1000), ebx: Math.round(tscKhz / 1000) };
    case 0x4000_0010:
      return { ...leaf, eax: tscKhz, ebx: APIC_TIMER_KHZ };
    default:
      return leaf;
  }
}
