import { VirtualClock } from "@northbridge/core";
import { type CpuidLeaf, type CpuModel, type VirtualMachine, x86_64V2 } from "@northbridge/sdk";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { softHypervisor } from "../hypervisor.ts";
import { featuresOf, unmetClaims } from "./feature-claims.ts";

/** The default model with more bits set in some leaves. */
function claiming(...claims: readonly (Partial<CpuidLeaf> & { readonly leaf: number })[]): CpuModel {
  const leaves = x86_64V2.leaves.map((entry) => {
    const claim = claims.find(({ leaf, subleaf }) => leaf === entry.leaf && subleaf === entry.subleaf);
    if (claim === undefined) return entry;
    return {
      ...entry,
      eax: entry.eax | (claim.eax ?? 0),
      ebx: entry.ebx | (claim.ebx ?? 0),
      ecx: entry.ecx | (claim.ecx ?? 0),
      edx: entry.edx | (claim.edx ?? 0),
    };
  });
  return { name: "greedy", leaves };
}

const create = (cpuModel: CpuModel): Promise<VirtualMachine> => {
  const bus = { read: () => 0, write: () => undefined };
  return softHypervisor().createVm({
    vcpus: 1,
    clock: new VirtualClock(),
    ports: bus,
    mmio: bus,
    memoryBytes: 4096,
    cpuModel,
  });
};

describe("CPU models", () => {
  it("the default one claims nothing that the core lacks", () => {
    expect(unmetClaims(x86_64V2)).toEqual([]);
  });

  it("one that claims more is refused by the names of the features", async () => {
    const model = claiming(
      { leaf: 1, ecx: (1 << 28) | (1 << 17) },
      { leaf: 7, subleaf: 0, ebx: (1 << 3) | (1 << 5) },
      { leaf: 0x8000_0001, edx: 1 << 26 },
    );
    await expect(create(model)).rejects.toMatchObject({
      code: "NB_BACKEND",
      message:
        "CPU model greedy: claims what the software CPU lacks: PCID (CPUID 0x1.0 ECX bit 17), " +
        "AVX (CPUID 0x1.0 ECX bit 28), BMI1 (CPUID 0x7.0 EBX bit 3), AVX2 (CPUID 0x7.0 EBX bit 5), " +
        "1-GiB-pages (CPUID 0x80000001.0 EDX bit 26)",
    });
  });

  it("a saved guest's is taken over, or refused by the same names", async () => {
    const vm = await create(x86_64V2);
    expect(() => {
      vm.setCpuModel!(claiming({ leaf: 1, ecx: 1 << 28 }));
    }).toThrow(
      "cpu: cannot restore: greedy claims what the software CPU lacks: AVX (CPUID 0x1.0 ECX bit 28)",
    );
    expect(vm.cpuModel).toEqual({ ...x86_64V2, tscKhz: 1_000_000 });
    const saved = { ...claiming({ leaf: 1, ecx: 1 << 25 }), tscKhz: 2_000_000 };
    vm.setCpuModel!(saved);
    expect(vm.cpuModel).toEqual(saved);
  });

  it.each([
    ["a reserved bit", { leaf: 1, ecx: 1 << 16 }, "CPUID 0x1.0 ECX bit 16"],
    ["a bit beyond those with names", { leaf: 7, subleaf: 1, ebx: 1 << 31 }, "CPUID 0x7.1 EBX bit 31"],
    [
      "wider addresses",
      { leaf: 0x8000_0008, eax: 0x3f },
      "63 physical address bits (CPUID 0x80000008 EAX; it has 40)",
    ],
  ])("%s counts as a claim", (_, claim, expected) => {
    expect(unmetClaims(claiming(claim))).toEqual([expected]);
  });

  it("what the core has beyond the default may be claimed, and is there only then", async () => {
    const model = claiming({ leaf: 1, ecx: (1 << 1) | (1 << 22) | (1 << 25) | (1 << 26) });
    await expect(create(model)).resolves.toBeDefined();
    expect(featuresOf(x86_64V2)).toBe(0x20); // RDTSCP
    expect(featuresOf(model)).toBe(0x3d); // and PCLMULQDQ, AES, MOVBE, XSAVE
  });

  it("every bit of a feature register is either had or refused by its place", () => {
    const place = fc.constantFrom(
      ...([
        [1, undefined, "ecx"],
        [1, undefined, "edx"],
        [7, 0, "ebx"],
        [7, 0, "ecx"],
        [7, 0, "edx"],
        [7, 1, "eax"],
        [7, 2, "edx"],
        [0x8000_0001, undefined, "ecx"],
        [0x8000_0001, undefined, "edx"],
        [0x8000_0007, undefined, "edx"],
        [0x8000_0008, undefined, "ebx"],
      ] as const),
    );
    fc.assert(
      fc.property(place, fc.nat(31), ([leaf, subleaf, register], bit) => {
        const unmet = unmetClaims(claiming({ leaf, subleaf, [register]: 1 << bit }));
        if (unmet.length === 0) return true;
        const where = `CPUID 0x${leaf.toString(16)}.${subleaf ?? 0} ${register.toUpperCase()} bit ${bit}`;
        return unmet.length === 1 && unmet[0]!.includes(where);
      }),
    );
  });
});
