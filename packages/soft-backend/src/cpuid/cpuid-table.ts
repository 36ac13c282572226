import { type CpuidLeaf, type CpuModel, withTopology, withTscRate } from "@northbridge/sdk";

const APIC = 1 << 9;
const OSXSAVE = 1 << 27;
const XSAVE = 1 << 26;
/** Leaves of levels of topology: subleaves beyond the last level have ids too (SDM 2A, CPUID leaf 0BH). */
const LEVELS = [0xb, 0x1f];

type Table = ReadonlyMap<number, readonly CpuidLeaf[]>;

function tableOf(leaves: readonly CpuidLeaf[]): Table {
  const table = new Map<number, CpuidLeaf[]>();
  for (const entry of leaves) {
    const list = table.get(entry.leaf >>> 0) ?? [];
    list.push(entry);
    table.set(entry.leaf >>> 0, list);
  }
  return table;
}

/**
 * Answers CPUID for one machine: the model's leaves with what depends on the machine and on the processor filled
 * in (its topology, as `withTopology` says; the APIC and OSXSAVE bits of leaf 1). `look` leaves its answer in the fields.
 */
export class CpuidTable {
  readonly #vcpus: number;
  #leaves: readonly CpuidLeaf[] = [];
  /** By APIC id. */
  readonly #tables: Map<number, Table> = new Map();
  #maxBasic = 0;
  #maxExtended = 0;
  #maxHypervisor = 0;
  #isIntel = false;
  eax = 0;
  ebx = 0;
  ecx = 0;
  edx = 0;

  constructor(model: CpuModel, vcpus: number) {
    this.#vcpus = vcpus;
    this.show(model);
  }

  /** Answers as this model from now on. */
  show({ leaves, tscKhz }: CpuModel): void {
    this.#leaves = tscKhz === undefined ? leaves : withTscRate(leaves, tscKhz);
    this.#tables.clear();
    const table = tableOf(leaves);
    const limit = (base: number): number => (table.get(base)?.[0]?.eax ?? base) >>> 0;
    this.#maxBasic = limit(0);
    this.#maxExtended = limit(0x8000_0000);
    this.#maxHypervisor = limit(0x4000_0000);
    this.#isIntel = (table.get(0)?.[0]?.ecx ?? 0) === 0x6c65_746e;
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
    const entry = this.#find(used, subleaf >>> 0, apicId);
    this.eax = entry?.eax ?? 0;
    this.ebx = entry?.ebx ?? 0;
    this.ecx = entry?.ecx ?? 0;
    this.edx = entry?.edx ?? 0;
    if (used === 1) {
      if (!apicEnabled) this.edx = (this.edx & ~APIC) >>> 0;
      const isOsXsave = osXsave && (this.ecx & XSAVE) !== 0;
      this.ecx = (isOsXsave ? this.ecx | OSXSAVE : this.ecx & ~OSXSAVE) >>> 0;
    } else if (entry === undefined && !isBeyond && LEVELS.includes(used)) {
      this.ecx = subleaf & 0xff;
      this.edx = apicId;
    }
  }

  #find(leaf: number, subleaf: number, apicId: number): CpuidLeaf | undefined {
    let table = this.#tables.get(apicId);
    if (table === undefined) {
      table = tableOf(withTopology(this.#leaves, { apicId, vcpus: this.#vcpus }));
      this.#tables.set(apicId, table);
    }
    const entries = table.get(leaf);
    if (entries === undefined) return undefined;
    for (const entry of entries) if (entry.subleaf === undefined || entry.subleaf === subleaf) return entry;
    return undefined;
  }
}
