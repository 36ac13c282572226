import type { CpuidLeaf } from "@northbridge/core/contracts";

/** Of the local APIC's timer, and the crystal that leaf 15H counts in: a gigahertz, as KVM has it. */
const CRYSTAL_KHZ = 1e6;

/**
 * A model's leaves with the rate of its time-stamp counter in those that tell it (SDM 2A, CPUID leaves 15H, 16H; KVM's
 * 40000010H). Leaves that are not there, or that tell nothing, stay so.
 */
export function withTscRate(leaves: readonly CpuidLeaf[], tscKhz: number): readonly CpuidLeaf[] {
  return leaves.map((entry) => told(entry, tscKhz));
}

function told(entry: CpuidLeaf, tscKhz: number): CpuidLeaf {
  const { eax, ebx, ecx } = entry;
  if (eax === 0) return entry;
  const mhz = Math.round(tscKhz / 1000);
  switch (entry.leaf >>> 0) {
    case 0x15:
      if (ecx === CRYSTAL_KHZ * 1000 && ebx * CRYSTAL_KHZ === tscKhz * eax) return entry;
      return { ...entry, eax: CRYSTAL_KHZ, ebx: tscKhz, ecx: CRYSTAL_KHZ * 1000 };
    case 0x16:
      return { ...entry, eax: mhz, ebx: mhz };
    case 0x4000_0010:
      return { ...entry, eax: tscKhz, ebx: CRYSTAL_KHZ };
    default:
      return entry;
  }
}
