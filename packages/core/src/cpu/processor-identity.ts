import type { CpuidLeaf, CpuModel } from "../contracts/index.ts";

/** What a processor without leaf 8000_0008h has (Intel SDM 3A §4.1.4). */
const PHYSICAL_BITS = 36;

const leafOf = (model: CpuModel, leaf: number): CpuidLeaf | undefined =>
  model.leaves.find((entry) => entry.leaf >>> 0 === leaf);

/** `GenuineIntel`, `AuthenticAMD` … (Intel SDM 2A, CPUID leaf 0: EBX, EDX, ECX). */
export function vendorOf(model: CpuModel): string {
  const { ebx = 0, edx = 0, ecx = 0 } = leafOf(model, 0) ?? {};
  const bytes = [ebx, edx, ecx].flatMap((word) => [0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff));
  return String.fromCharCode(...bytes);
}

/** MAXPHYADDR: bits of a physical address that page tables may have set (Intel SDM 2A, CPUID leaf 8000_0008h). */
export function physicalAddressBits(model: CpuModel): number {
  const found = leafOf(model, 0x8000_0008);
  return found === undefined ? PHYSICAL_BITS : found.eax & 0xff;
}
