import type { CpuidLeaf, CpuModel } from "@northbridge/sdk";

const APIC = 1 << 9;
const HTT = 1 << 28;
const OSXSAVE = 1 << 27;
const XSAVE = 1 << 26;

/**
 * Answers CPUID for one machine: the model's leaves with what depends on the machine and on the processor filled
 * in (topology in leaves 1, 4 and 0xB; the APIC and OSXSAVE bits of leaf 1). `look` leaves its answer in the fields.
 */
export class CpuidTable {
  readonly #leaves: Map<number, CpuidLeaf[]> = new Map();
  readonly #vcpus: number;
  readonly #maxBasic: number;
  readonly #maxExtended: number;
  readonly #maxHypervisor: number;
  readonly #isIntel: boolean;
  eax = 0;
  ebx = 0;
  ecx = 0;
  edx = 0;

  constructor(model: CpuModel, vcpus: number) {
    for (const entry of model.leaves) {
      const list = this.#leaves.get(entry.leaf >>> 0) ?? [];
      list.push(entry);
      this.#leaves.set(entry.leaf >>> 0, list);
    }
    this.#vcpus = vcpus;
    const limit = (base: number): number => (this.#leaves.get(base)?.[0]?.eax ?? base) >>> 0;
    this.#maxBasic = limit(0);
    this.#maxExtended = limit(0x8000_0000);
    this.#maxHypervisor = limit(0x4000_0000);
    this.#isIntel = (this.#leaves.get(0)?.[0]?.ecx ?? 0) === 0x6c65_746e;
  }

  /** @param apicEnabled IA32_APIC_BASE bit 11, @param osXsave CR4.OSXSAVE */
  look(leaf: number, subleaf: number, apicId: number, apicEnabled: boolean, osXsave: boolean): void {
    const wanted = leaf >>> 0;
    const isBeyond =
      wanted >= 0x8000_0000
        ? wanted > this.#maxExtended
        : wanted >= 0x4000_0000
          ? wanted > this.#maxHypervisor
          : wanted > this.#maxBasic;
    // Intel parts answer an unsupported leaf with the highest basic one (SDM 2A, CPUID); others with zeros.
    const used = isBeyond && this.#isIntel ? this.#maxBasic : wanted;
    const entry = this.#find(used, subleaf >>> 0);
    this.eax = entry?.eax ?? 0;
    this.ebx = entry?.ebx ?? 0;
    this.ecx = entry?.ecx ?? 0;
    this.edx = entry?.edx ?? 0;
    this.#fill(used, subleaf >>> 0, apicId, apicEnabled, osXsave);
  }

  #find(leaf: number, subleaf: number): CpuidLeaf | undefined {
    const entries = this.#leaves.get(leaf);
    if (entries === undefined) return undefined;
    for (const entry of entries) if (entry.subleaf === undefined || entry.subleaf === subleaf) return entry;
    return undefined;
  }

  #fill(leaf: number, subleaf: number, apicId: number, apicEnabled: boolean, osXsave: boolean): void {
    const vcpus = this.#vcpus;
    if (leaf === 1) {
      this.ebx = ((this.ebx & 0xff00) | ((Math.min(vcpus, 255) & 0xff) << 16) | (apicId << 24)) >>> 0;
      this.edx = ((apicEnabled ? this.edx : this.edx & ~APIC) | (vcpus > 1 ? HTT : 0)) >>> 0;
      const isOsXsave = osXsave && (this.ecx & XSAVE) !== 0;
      this.ecx = (isOsXsave ? this.ecx | OSXSAVE : this.ecx & ~OSXSAVE) >>> 0;
    } else if (leaf === 4 && (this.eax & 0x1f) !== 0) {
      const isShared = (this.eax >> 5) % 8 >= 3;
      this.eax = ((this.eax & 0x3fff) | ((isShared ? vcpus - 1 : 0) << 14) | ((vcpus - 1) << 26)) >>> 0;
    } else if (leaf === 0xb) {
      // One thread per core, all cores in one package.
      this.eax = subleaf === 1 ? 32 - Math.clz32(vcpus - 1) : 0;
      this.ebx = subleaf === 0 ? 1 : subleaf === 1 ? vcpus : 0;
      this.ecx = subleaf === 0 ? 0x100 : subleaf === 1 ? 0x201 : subleaf & 0xff;
      this.edx = apicId;
    }
  }
}
