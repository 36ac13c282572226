import type { CpuidLeaf } from "@northbridge/core/contracts";
import { describe, expect, it } from "vitest";
import { withTopology } from "./cpu-topology.ts";

const leaf = (number: number, words: Partial<CpuidLeaf> = {}): CpuidLeaf => ({
  ...{ leaf: number, eax: 0, ebx: 0, ecx: 0, edx: 0 },
  ...words,
});
const AMD = leaf(0, { eax: 0x10, ebx: 0x68747541, ecx: 0x444d4163, edx: 0x69746e65 });
const INTEL = leaf(0, { eax: 0x1f, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 });

/** What an EPYC's KVM proposes: the host's 16 cores of two threads, and no ids of the guest's. */
const EPYC = [
  AMD,
  leaf(1, { eax: 0xa00f11, ebx: 0x0502_0800, edx: 0x178b_fbff }),
  leaf(0xb, { subleaf: 0, eax: 1, ebx: 2, ecx: 0x100, edx: 5 }),
  leaf(0x8000_0001, { ecx: 0x0040_0001 }),
  leaf(0x8000_0008, { eax: 0x3030, ecx: 0x1_701f }),
  leaf(0x8000_001d, { subleaf: 0, eax: 0x4121 }),
  leaf(0x8000_001d, { subleaf: 3, eax: 0x3c163 }),
  leaf(0x8000_001e),
];
/** Two threads of eight cores, with leaf 1FH. */
const XEON = [
  INTEL,
  leaf(1, { ebx: 0x0b10_0800, edx: 1 << 28 }),
  leaf(4, { subleaf: 0, eax: 0x1c00_4121 }),
  leaf(4, { subleaf: 3, eax: 0x1c03_c163 }),
  leaf(0xb, { subleaf: 0, eax: 1, ebx: 2, ecx: 0x100 }),
  leaf(0x1f, { subleaf: 0, eax: 1, ebx: 2, ecx: 0x100 }),
  leaf(0x8000_0008, { eax: 0x3030 }),
];

const at = (leaves: readonly CpuidLeaf[], number: number, subleaf?: number): CpuidLeaf | undefined =>
  leaves.find((entry) => entry.leaf === number && entry.subleaf === subleaf);

describe("the topology that CPUID tells", () => {
  it("is of cores in one package, by AMD's leaves", () => {
    const third = withTopology(EPYC, { apicId: 2, vcpus: 4 });
    expect(at(third, 1)).toMatchObject({ ebx: 0x0204_0800, edx: 0x178b_fbff });
    expect(at(third, 0xb, 0)).toMatchObject({ eax: 0, ebx: 1, ecx: 0x100, edx: 2 });
    expect(at(third, 0xb, 1)).toMatchObject({ eax: 2, ebx: 4, ecx: 0x201, edx: 2 });
    expect(at(third, 0x8000_0001)?.ecx).toBe(0x0040_0003); // CmpLegacy
    expect(at(third, 0x8000_0008)).toMatchObject({ eax: 0x3030, ecx: 0x1_2003 });
    expect(at(third, 0x8000_001d, 0)?.eax).toBe(0x0121); // L1: its own
    expect(at(third, 0x8000_001d, 3)?.eax).toBe(0xc163); // L3: of four
    expect(at(third, 0x8000_001e)).toMatchObject({ eax: 2, ebx: 2, ecx: 0 });
    const alone = withTopology(EPYC, { apicId: 0, vcpus: 1 });
    expect(at(alone, 1)).toMatchObject({ ebx: 0x0001_0800, edx: 0x078b_fbff });
    expect(at(alone, 0x8000_0008)?.ecx).toBe(0x1_0000);
    expect(at(alone, 0x8000_0001)?.ecx).toBe(0x0040_0001);
  });

  it("is of cores in one package, by Intel's leaves", () => {
    const second = withTopology(XEON, { apicId: 1, vcpus: 3 });
    expect(at(second, 1)).toMatchObject({ ebx: 0x0103_0800, edx: 1 << 28 });
    expect((at(second, 4, 0)?.eax ?? 0) >>> 0).toBe(((2 << 26) | 0x121) >>> 0);
    expect((at(second, 4, 3)?.eax ?? 0) >>> 0).toBe(((2 << 26) | (2 << 14) | 0x163) >>> 0);
    for (const number of [0xb, 0x1f]) {
      expect(at(second, number, 1)).toMatchObject({ eax: 2, ebx: 3, ecx: 0x201, edx: 1 });
      expect(at(second, number, 2)).toMatchObject({ eax: 0, ebx: 0, ecx: 2, edx: 1 });
    }
    expect(at(second, 0x8000_0008)).toEqual(at(XEON, 0x8000_0008));
  });

  it("has different ids for any two processors, and says all other leaves as they are", () => {
    const brand = leaf(0x8000_0002, { eax: 1, ebx: 2, ecx: 3, edx: 4 });
    const all = Array.from({ length: 254 }, (_, apicId) =>
      withTopology([...EPYC, brand], { apicId, vcpus: 254 }),
    );
    expect(new Set(all.map((leaves) => at(leaves, 0x8000_001e)?.eax)).size).toBe(254);
    expect(new Set(all.map((leaves) => (at(leaves, 1)?.ebx ?? 0) >>> 24)).size).toBe(254);
    expect(new Set(all.map((leaves) => at(leaves, 0xb, 0)?.edx)).size).toBe(254);
    for (const leaves of all) expect(leaves).toContainEqual(brand);
  });

  it("has no leaves beyond the model's limit", () => {
    const old = [leaf(0, { ...INTEL, eax: 4 }), leaf(1)];
    expect(withTopology(old, { apicId: 0, vcpus: 2 }).map((entry) => entry.leaf)).toEqual([0, 1]);
  });
});
