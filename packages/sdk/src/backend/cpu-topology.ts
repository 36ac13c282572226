import type { CpuidLeaf } from "@northbridge/core/contracts";

/** One processor of a machine. */
export interface CpuPlace {
  readonly apicId: number;
  readonly vcpus: number;
}

/** ECX of leaf 0: the end of the vendor's name. */
const AMD = 0x444d_4163;
const HYGON = 0x656e_6975;

const HTT = 1 << 28;
const CMP_LEGACY = 1 << 1;
const TOPOLOGY_EXTENSIONS = 1 << 22;
/** Leaves of levels of topology, and AMD's extended APIC id. */
const LEVELS = [0xb, 0x1f];
const EXTENDED_APIC_ID = 0x8000_001e;

/**
 * A model's leaves as one processor of a machine shows them: one thread a core, all cores in one package, the caches
 * of the third level shared by all (SDM 2A, CPUID leaves 1, 4, 0BH, 1FH; AMD APM 3, appendix E.4, functions 1,
 * 8000_0001h, 8000_0008h, 8000_001Dh, 8000_001Eh). What the model says of its host's topology is replaced.
 */
export function withTopology(leaves: readonly CpuidLeaf[], place: CpuPlace): readonly CpuidLeaf[] {
  const first = (wanted: number): CpuidLeaf | undefined => leaves.find(({ leaf }) => leaf >>> 0 === wanted);
  const vendor = (first(0)?.ecx ?? 0) >>> 0;
  const isAmd = vendor === AMD || vendor === HYGON;
  const hasExtendedId = isAmd && ((first(0x8000_0001)?.ecx ?? 0) & TOPOLOGY_EXTENSIONS) !== 0;
  const limit = (first(0)?.eax ?? 0) >>> 0;
  const levels = LEVELS.filter((leaf) => leaf <= limit && (leaf === 0xb || first(leaf) !== undefined));
  return [
    ...leaves
      .filter(({ leaf }) => !LEVELS.includes(leaf) && (leaf >>> 0 !== EXTENDED_APIC_ID || !hasExtendedId))
      .map((entry) => placed(entry, place, isAmd)),
    ...levels.flatMap((leaf) => levelsOf(leaf, place)),
    ...(hasExtendedId ? [extendedIdOf(place)] : []),
  ];
}

function placed(entry: CpuidLeaf, { apicId, vcpus }: CpuPlace, isAmd: boolean): CpuidLeaf {
  const { leaf, eax, ebx, ecx, edx } = entry;
  const others = vcpus - 1;
  switch (leaf >>> 0) {
    case 1:
      return {
        ...entry,
        ebx: ((ebx & 0xff00) | (Math.min(vcpus, 255) << 16) | (apicId << 24)) >>> 0,
        edx: withBit(edx, HTT, vcpus > 1),
      };
    case 4:
      if ((eax & 0x1f) === 0) return entry;
      return { ...entry, eax: (sharedBy(eax, others) | (Math.min(others, 63) << 26)) >>> 0 };
    case 0x8000_0001:
      return isAmd ? { ...entry, ecx: withBit(ecx, CMP_LEGACY, vcpus > 1) } : entry;
    case 0x8000_0008: {
      // PerfTscSize is not of the topology.
      const size = (idBits(vcpus) << 12) | Math.min(others, 255);
      return isAmd ? { ...entry, ecx: ((ecx & 0xffff_0000) | size) >>> 0 } : entry;
    }
    case 0x8000_001d:
      return isAmd && (eax & 0x1f) !== 0 ? { ...entry, eax: sharedBy(eax, others) } : entry;
    default:
      return entry;
  }
}

const withBit = (word: number, bit: number, isSet: boolean): number =>
  (isSet ? word | bit : word & ~bit) >>> 0;

/** Bits of an APIC id that number the processors of the package. */
const idBits = (vcpus: number): number => 32 - Math.clz32(vcpus - 1);

/** A cache's first word: bits 7:5 are its level, 25:14 who else has it. */
const sharedBy = (eax: number, others: number): number =>
  (eax & 0x3fff) | ((((eax >>> 5) & 7) >= 3 ? Math.min(others, 0xfff) : 0) << 14);

const levelsOf = (leaf: number, { apicId, vcpus }: CpuPlace): readonly CpuidLeaf[] => [
  { leaf, subleaf: 0, eax: 0, ebx: 1, ecx: 0x100, edx: apicId },
  { leaf, subleaf: 1, eax: idBits(vcpus), ebx: vcpus, ecx: 0x201, edx: apicId },
  { leaf, subleaf: 2, eax: 0, ebx: 0, ecx: 2, edx: apicId },
];

/** EBX: the core and how many threads it has beside its first; ECX: the node and how many there are beside the first. */
const extendedIdOf = ({ apicId }: CpuPlace): CpuidLeaf => ({
  leaf: EXTENDED_APIC_ID,
  eax: apicId,
  ebx: apicId & 0xff,
  ecx: 0,
  edx: 0,
});
