import type { CpuidLeaf, CpuModel } from "@northbridge/sdk";

/** What of CPUID depends on the machine and on the processor in it. */
export interface VcpuPlace {
  /** The processor's number, which is its APIC id. */
  readonly index: number;
  readonly vcpus: number;
  readonly tscKhz: number;
}

const HTT = 2 ** 28;
const X2APIC_TOPOLOGY = [0xb, 0x1f];
/** Of the local APIC's timer in KVM, and the crystal that a model with leaf 15H counts in. */
const APIC_TIMER_KHZ = 1e6;

/**
 * A model's leaves with what depends on the vCPU filled in (SDM 2A, CPUID leaves 1, 4, 0BH, 15H, 16H). A model that
 * says nothing of the topology has one package with a core a vCPU; what KVM itself proposes keeps its own.
 */
export function leavesOf(model: CpuModel, place: VcpuPlace): readonly CpuidLeaf[] {
  const isProposed = model.leaves.some(({ leaf }) => leaf === 0xb);
  const leaves = model.leaves.map((leaf) => filled(isProposed ? leaf : withTopology(leaf, place), place));
  return isProposed ? leaves : [...leaves, ...topology(place)];
}

function filled(leaf: CpuidLeaf, { index, tscKhz }: VcpuPlace): CpuidLeaf {
  if (leaf.leaf === 1) return { ...leaf, ebx: ((leaf.ebx & 0xffffff) | (index << 24)) >>> 0 };
  if (X2APIC_TOPOLOGY.includes(leaf.leaf)) return { ...leaf, edx: index };
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

function withTopology(leaf: CpuidLeaf, { vcpus }: VcpuPlace): CpuidLeaf {
  if (leaf.leaf === 1) {
    const ebx = ((leaf.ebx & 0xff00) | (Math.min(vcpus, 255) << 16)) >>> 0;
    return { ...leaf, ebx, edx: (leaf.edx | (vcpus > 1 ? HTT : 0)) >>> 0 };
  }
  if (leaf.leaf !== 4 || (leaf.eax & 0x1f) === 0) return leaf;
  // Bits 7:5 are the cache's level: the third is shared by all.
  const sharing = (leaf.eax >>> 5) % 8 >= 3 ? vcpus - 1 : 0;
  return { ...leaf, eax: ((leaf.eax & 0x3fff) | (sharing << 14) | ((vcpus - 1) << 26)) >>> 0 };
}

/** Leaf 0BH: one thread a core, all cores in one package. */
const topology = ({ index, vcpus }: VcpuPlace): readonly CpuidLeaf[] => [
  { leaf: 0xb, subleaf: 0, eax: 0, ebx: 1, ecx: 0x100, edx: index },
  { leaf: 0xb, subleaf: 1, eax: 32 - Math.clz32(vcpus - 1), ebx: vcpus, ecx: 0x201, edx: index },
];
