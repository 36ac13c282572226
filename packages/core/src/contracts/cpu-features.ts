import type { CpuidLeaf, CpuModel } from "./hypervisor.ts";

type Register = "eax" | "ebx" | "ecx" | "edx";

/** One bit of CPUID. */
export interface CpuFeature {
  /** As Linux calls it in `/proc/cpuinfo`. */
  readonly name: string;
  readonly leaf: number;
  readonly subleaf: number;
  readonly register: Register;
  readonly bit: number;
}

/**
 * Features from bit 0 on (Intel SDM 2A, CPUID; AMD APM 3, appendix E). `-`: reserved, or of the machine and not of the
 * model: APIC, HTT, OSXSAVE, OSPKE, hypervisor.
 */
const WORDS: readonly (readonly [leaf: number, subleaf: number, register: Register, names: string])[] = [
  [
    1,
    0,
    "ecx",
    `pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm
     - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand -`,
  ],
  [
    1,
    0,
    "edx",
    `fpu vme de pse tsc msr pae mce cx8 - - sep mtrr pge mca cmov
     pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss - tm ia64 pbe`,
  ],
  [6, 0, "eax", "dtherm ida arat"],
  [
    7,
    0,
    "ebx",
    `fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm zero_fcs_fds mpx rdt_a
     avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni
     avx512bw avx512vl`,
  ],
  [
    7,
    0,
    "ecx",
    `prefetchwt1 avx512vbmi umip pku - waitpkg avx512_vbmi2 user_shstk gfni vaes vpclmulqdq avx512_vnni avx512_bitalg
     tme avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect cldemote - movdiri movdir64b enqcmd sgx_lc pks`,
  ],
  [
    7,
    0,
    "edx",
    `- - avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect - md_clear - - - serialize -
     tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 spec_ctrl intel_stibp flush_l1d
     arch_capabilities core_capabilities spec_ctrl_ssbd`,
  ],
  [
    7,
    1,
    "eax",
    `sha512 sm3 sm4 - avx_vnni avx512_bf16 lass cmpccxadd arch_perfmon_ext - fzrm fsrs fsrc - - -
     - fred lkgs wrmsrns - amx_fp16 hreset avx_ifma - - lam`,
  ],
  [0xd, 1, "eax", "xsaveopt xsavec xgetbv1 xsaves"],
  [
    0x8000_0001,
    0,
    "ecx",
    `lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp
     fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx`,
  ],
  [
    0x8000_0001,
    0,
    "edx",
    `- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow`,
  ],
  [
    0x8000_0008,
    0,
    "ebx",
    `clzero irperf xsaveerptr invlpgb rdpru - - - - wbnoinvd - - amd_ibpb - amd_ibrs amd_stibp
     amd_ibrs_always_on amd_stibp_always_on - - - - - amd_ppin amd_ssbd virt_ssbd amd_ssb_no cppc amd_psfd btc_no - brs`,
  ],
  [0x8000_0007, 0, "edx", "- - - - - - - - nonstop_tsc"],
  // What KVM offers guests that know it (KVM: x86/cpuid.rst).
  [
    0x4000_0001,
    0,
    "eax",
    `kvmclock kvm_nopiodelay kvm_mmu kvmclock2 kvm_asyncpf kvm_steal_time kvm_pv_eoi kvm_pv_unhalt
     - kvm_pv_tlb_flush kvm_asyncpf_vmexit kvm_pv_ipi kvm_poll_control kvm_pv_sched_yield kvm_asyncpf_int
     kvm_msi_ext_dest_id kvm_hc_map_gpa_range kvm_migration_control - - - - - - kvmclock_stable`,
  ],
];

/** What data sheets call some of them. */
const ALIASES: Readonly<Record<string, string>> = {
  sse3: "pni",
  cmpxchg16b: "cx16",
  clfsh: "clflush",
  lahf: "lahf_lm",
  lzcnt: "abm",
  sha: "sha_ni",
  tscdeadline: "tsc_deadline_timer",
  invarianttsc: "nonstop_tsc",
};

/** `SSE4.2`, `sse4_2` and `sse4-2` are one feature. */
const plain = (name: string): string => name.toLowerCase().replaceAll(/[^a-z0-9]/g, "");

const BY_PLAIN_NAME: ReadonlyMap<string, CpuFeature> = new Map(
  WORDS.flatMap(([leaf, subleaf, register, names]) =>
    names
      .split(/\s+/)
      .flatMap((name, bit): (readonly [string, CpuFeature])[] =>
        name === "-" ? [] : [[plain(name), { name, leaf, subleaf, register, bit }]],
      ),
  ),
);

/** Every feature there is a name for. */
export const cpuFeatureNames: readonly string[] = [...BY_PLAIN_NAME.values()].map(({ name }) => name);

/** The feature of a name, whatever its punctuation; `undefined` for none. */
export function findCpuFeature(name: string): CpuFeature | undefined {
  const wanted = plain(name);
  const alias = ALIASES[wanted];
  return BY_PLAIN_NAME.get(alias === undefined ? wanted : plain(alias));
}

const isAt = ({ leaf, subleaf }: CpuidLeaf, feature: CpuFeature): boolean =>
  leaf >>> 0 === feature.leaf && (subleaf ?? 0) === feature.subleaf;

/** Whether the model shows the feature. */
export function hasFeature(model: CpuModel, feature: CpuFeature): boolean {
  const found = model.leaves.find((leaf) => isAt(leaf, feature));
  return found !== undefined && ((found[feature.register] >>> feature.bit) & 1) === 1;
}

/** State that XSAVE can have: what a guest has enabled in XCR0 it cannot do without (Intel SDM 1 §13.1). */
const XSTATES: readonly CpuFeature[] = (["eax", "edx"] as const).flatMap((register, half) =>
  Array.from({ length: 32 }, (_, bit) => ({
    name: `XSAVE component ${32 * half + bit}`,
    leaf: 0xd,
    subleaf: 0,
    register,
    bit,
  })),
);

/** What one model shows and another does not, by name. */
export function missingFeatures(shown: CpuModel, here: CpuModel): readonly string[] {
  return [...BY_PLAIN_NAME.values(), ...XSTATES]
    .filter((feature) => hasFeature(shown, feature) && !hasFeature(here, feature))
    .map(({ name }) => name);
}

/** Leaves with one bit changed; a leaf that is not there is made, where there is something to show. */
export function withFeature(
  leaves: readonly CpuidLeaf[],
  feature: CpuFeature,
  isShown: boolean,
): readonly CpuidLeaf[] {
  const { leaf, subleaf, register, bit } = feature;
  const mask = 2 ** bit;
  const changed = leaves.map((entry) => {
    if (!isAt(entry, feature)) return entry;
    const value = entry[register];
    return { ...entry, [register]: (isShown ? value | mask : value & ~mask) >>> 0 };
  });
  if (!isShown || leaves.some((entry) => isAt(entry, feature))) return changed;
  return [...changed, { leaf, subleaf, eax: 0, ebx: 0, ecx: 0, edx: 0, [register]: mask }];
}
