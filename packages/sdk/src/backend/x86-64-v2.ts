import type { CpuidLeaf, CpuModel } from "@northbridge/core/contracts";

const bits = (...positions: readonly number[]): number => positions.reduce((sum, bit) => sum + 2 ** bit, 0);

/** Four bytes of ASCII in register order. */
const word = (text: string): number =>
  [0, 1, 2, 3].reduce((sum, i) => sum + (text.charCodeAt(i) || 0) * 2 ** (8 * i), 0);

const leaf = (
  leaf: number,
  eax: number,
  ebx: number,
  ecx: number,
  edx: number,
  subleaf?: number,
): CpuidLeaf => ({
  leaf,
  subleaf,
  eax,
  ebx,
  ecx,
  edx,
});

const text = (leafNumber: number, value: string): CpuidLeaf =>
  leaf(
    leafNumber,
    word(value.slice(0, 4)),
    word(value.slice(4, 8)),
    word(value.slice(8, 12)),
    word(value.slice(12, 16)),
  );

/** Leaf 4 (SDM 2A, CPUID): one cache. The sharing fields are filled in per machine. */
const cache = (subleaf: number, type: 1 | 2 | 3, level: number, ways: number, sets: number): CpuidLeaf =>
  leaf(4, type | (level << 5) | (1 << 8), 63 | ((ways - 1) * 2 ** 22), sets - 1, 0, subleaf);

const BRAND = "Northbridge x86-64-v2 virtual CPU".padEnd(48, "\0");

/** SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, x2APIC, POPCNT, TSC deadline, hypervisor. */
const LEAF_1_ECX = bits(0, 9, 13, 19, 20, 21, 23, 24, 31);
/** FPU DE PSE TSC MSR PAE CX8 APIC SEP MTRR PGE CMOV PAT PSE-36 CLFSH MMX FXSR SSE SSE2. */
const LEAF_1_EDX = bits(0, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 15, 16, 17, 19, 23, 24, 25, 26);

/**
 * The default processor: the x86-64-v2 level of the psABI and nothing beyond it but what makes a guest cheaper to
 * run. It calls itself an Intel family 6 part that is immune to the speculation bugs (docs/adr/0010), so that
 * Linux neither isolates page tables nor builds retpolines, and takes the TSC's frequency from leaf 0x15. A backend
 * fills in what depends on the machine: processors, their numbers, and the TSC's frequency where it is another.
 */
export const x86_64V2: CpuModel = {
  name: "x86-64-v2",
  leaves: [
    leaf(0, 0x16, word("Genu"), word("ntel"), word("ineI")),
    leaf(1, 0x0008_06f8, 8 << 8, LEAF_1_ECX, LEAF_1_EDX),
    leaf(2, 0x00fe_ff01, 0, 0, 0),
    cache(0, 1, 1, 8, 64),
    cache(1, 2, 1, 8, 64),
    cache(2, 3, 2, 16, 1024),
    cache(3, 3, 3, 16, 16384),
    leaf(4, 0, 0, 0, 0, 4),
    leaf(5, 0, 0, 0, 0),
    leaf(6, 1 << 2, 0, 0, 0),
    // TSC_ADJUST, ERMS; FSRM, SPEC_CTRL, ARCH_CAPABILITIES
    leaf(7, 2, bits(1, 9), 0, bits(4, 26, 29), 0),
    leaf(7, 0, 0, 0, 0, 1),
    // BHI_CTRL: kernels that distrust BHI_NO set a bit instead of clearing the branch history on every system call.
    leaf(7, 0, 0, 0, bits(4), 2),
    leaf(0x15, 1, 1, 1_000_000_000, 0),
    leaf(0x16, 1000, 1000, 100, 0),
    leaf(0x4000_0000, 0x4000_0010, word("Nort"), word("hbri"), word("dge")),
    leaf(0x4000_0010, 1_000_000, 1_000_000, 0, 0),
    leaf(0x8000_0000, 0x8000_0008, 0, 0, 0),
    // LAHF; SYSCALL, NX, RDTSCP, LM
    leaf(0x8000_0001, 0, 0, bits(0), bits(11, 20, 27, 29)),
    text(0x8000_0002, BRAND.slice(0, 16)),
    text(0x8000_0003, BRAND.slice(16, 32)),
    text(0x8000_0004, BRAND.slice(32, 48)),
    leaf(0x8000_0006, 0, 0, 0x0400_8040, 0),
    leaf(0x8000_0007, 0, 0, 0, bits(8)),
    leaf(0x8000_0008, 40 | (48 << 8), 0, 0, 0),
  ],
};
