import { type CpuidLeaf, type CpuModel, NorthbridgeError } from "@northbridge/sdk";
import * as L from "../cpu/layout.ts";

type Register = "eax" | "ebx" | "ecx" | "edx";

/** One register of CPUID whose bits are features: their names from bit 0 on, and those that the core has. */
interface FeatureWord {
  readonly leaf: number;
  readonly subleaf: number;
  readonly register: Register;
  /** `-`: reserved. */
  readonly names: readonly string[];
  readonly has: ReadonlySet<string>;
}

const word = (
  leaf: number,
  subleaf: number,
  register: Register,
  names: string,
  has: string,
): FeatureWord => ({
  leaf,
  subleaf,
  register,
  names: names.split(/\s+/),
  has: new Set(has.split(/\s+/)),
});

const LEAF_1_EDX_HAS =
  "FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE-36 CLFSH MMX FXSR SSE SSE2 SS HTT";

/** Features by register (Intel SDM 2A, CPUID; AMD APM 3, appendix E). */
const WORDS: readonly FeatureWord[] = [
  word(
    1,
    0,
    "ecx",
    `SSE3 PCLMULQDQ DTES64 MONITOR DS-CPL VMX SMX EIST TM2 SSSE3 CNXT-ID SDBG FMA CMPXCHG16B xTPR PDCM
     - PCID DCA SSE4.1 SSE4.2 x2APIC MOVBE POPCNT TSC-deadline AES XSAVE OSXSAVE AVX F16C RDRAND hypervisor`,
    `SSE3 PCLMULQDQ SSSE3 CMPXCHG16B SSE4.1 SSE4.2 x2APIC MOVBE POPCNT TSC-deadline AES XSAVE OSXSAVE hypervisor`,
  ),
  word(
    1,
    0,
    "edx",
    `FPU VME DE PSE TSC MSR PAE MCE CX8 APIC - SEP MTRR PGE MCA CMOV
     PAT PSE-36 PSN CLFSH - DS ACPI MMX FXSR SSE SSE2 SS HTT TM IA64 PBE`,
    LEAF_1_EDX_HAS,
  ),
  word(
    7,
    0,
    "ebx",
    `FSGSBASE TSC_ADJUST SGX BMI1 HLE AVX2 FDP_EXCPTN_ONLY SMEP BMI2 ERMS INVPCID RTM RDT-M FCS_FDS_DEPRECATED MPX RDT-A
     AVX512F AVX512DQ RDSEED ADX SMAP AVX512_IFMA PCOMMIT CLFLUSHOPT CLWB PT AVX512PF AVX512ER AVX512CD SHA AVX512BW AVX512VL`,
    "TSC_ADJUST ERMS FCS_FDS_DEPRECATED",
  ),
  word(
    7,
    0,
    "ecx",
    `PREFETCHWT1 AVX512_VBMI UMIP PKU OSPKE WAITPKG AVX512_VBMI2 CET_SS GFNI VAES VPCLMULQDQ AVX512_VNNI AVX512_BITALG TME
     AVX512_VPOPCNTDQ - LA57 MAWAU0 MAWAU1 MAWAU2 MAWAU3 MAWAU4 RDPID KL BUS_LOCK_DETECT CLDEMOTE - MOVDIRI MOVDIR64B
     ENQCMD SGX_LC PKS`,
    "UMIP",
  ),
  word(
    7,
    0,
    "edx",
    `- SGX-KEYS AVX512_4VNNIW AVX512_4FMAPS FSRM UINTR - - AVX512_VP2INTERSECT SRBDS_CTRL MD_CLEAR RTM_ALWAYS_ABORT -
     RTM_FORCE_ABORT SERIALIZE HYBRID TSXLDTRK - PCONFIG LBR CET_IBT - AMX-BF16 AVX512_FP16 AMX-TILE AMX-INT8 SPEC_CTRL
     STIBP L1D_FLUSH ARCH_CAPABILITIES CORE_CAPABILITIES SSBD`,
    "FSRM MD_CLEAR SPEC_CTRL STIBP L1D_FLUSH ARCH_CAPABILITIES SSBD",
  ),
  word(
    7,
    1,
    "eax",
    "SHA512 SM3 SM4 RAO-INT AVX-VNNI AVX512_BF16 LASS CMPccXADD ARCHPERFMONEXT - FZRM FSRS FSRC",
    "FZRM FSRS FSRC",
  ),
  word(7, 1, "ebx", "-", "none"),
  word(7, 1, "ecx", "-", "none"),
  word(
    7,
    1,
    "edx",
    "- - - - AVX-VNNI-INT8 AVX-NE-CONVERT - - AMX-COMPLEX - AVX-VNNI-INT16 - - - PREFETCHI",
    "none",
  ),
  word(
    7,
    2,
    "edx",
    "PSFD IPRED_CTRL RRSBA_CTRL DDPD_U BHI_CTRL MCDT_NO",
    "PSFD IPRED_CTRL RRSBA_CTRL DDPD_U BHI_CTRL MCDT_NO",
  ),
  word(
    0xd,
    0,
    "eax",
    "x87-state SSE-state AVX-state BNDREGS BNDCSR opmask ZMM_Hi256 Hi16_ZMM PT-state PKRU",
    "x87-state SSE-state",
  ),
  word(0xd, 1, "eax", "XSAVEOPT XSAVEC XGETBV1 XSAVES XFD", "XSAVEOPT"),
  word(
    0x4000_0001,
    0,
    "eax",
    `kvmclock nop-io-delay mmu kvmclock2 async-pf steal-time pv-eoi pv-unhalt - pv-tlb-flush async-pf-vmexit pv-ipi
     poll-control pv-sched-yield async-pf-int msi-ext-dest-id hc-map-gpa-range migration-control - - - - - -
     kvmclock-stable`,
    "none",
  ),
  word(
    0x8000_0001,
    0,
    "ecx",
    `LAHF CmpLegacy SVM ExtApicSpace AltMovCr8 ABM SSE4A MisAlignSse 3DNowPrefetch OSVW IBS XOP SKINIT WDT - LWP
     FMA4 TCE - NodeId - TBM TopologyExtensions PerfCtrExtCore PerfCtrExtNB - DataBkptExt PerfTsc PerfCtrExtLLC MONITORX
     AddrMaskExt`,
    "LAHF CmpLegacy 3DNowPrefetch",
  ),
  word(
    0x8000_0001,
    0,
    "edx",
    `FPU VME DE PSE TSC MSR PAE MCE CX8 APIC - SYSCALL MTRR PGE MCA CMOV
     PAT PSE-36 - MP NX - MmxExt MMX FXSR FFXSR 1-GiB-pages RDTSCP - LM 3DNowExt 3DNow`,
    `${LEAF_1_EDX_HAS} SYSCALL NX MmxExt RDTSCP LM`,
  ),
  word(0x8000_0007, 0, "edx", "TS FID VID TTP TM STC 100MHzSteps HwPstate invariant-TSC", "invariant-TSC"),
  word(
    0x8000_0008,
    0,
    "ebx",
    `CLZERO IRPERF XSAVEERPTR INVLPGB RDPRU - BE MCOMMIT WBNOINVD - - - IBPB INT_WBINVD IBRS STIBP IBRS_ALWAYS
     STIBP_ALWAYS IBRS_PREFERRED IBRS_SAME_MODE NO_EFER_LMSLE INVLPGB_NESTED - PPIN SSBD VIRT_SSBD SSB_NO CPPC PSFD
     BTC_NO IBPB_RET BRS`,
    "BE WBNOINVD IBPB IBRS STIBP IBRS_ALWAYS STIBP_ALWAYS IBRS_PREFERRED IBRS_SAME_MODE SSBD SSB_NO PSFD BTC_NO IBPB_RET",
  ),
];

/** What page tables can name, and what linear addresses the core has. */
const PHYSICAL_ADDRESS_BITS = 40;
const LINEAR_ADDRESS_BITS = 48;

const find = (model: CpuModel, leaf: number, subleaf: number): CpuidLeaf | undefined =>
  model.leaves.find((entry) => entry.leaf >>> 0 === leaf && (entry.subleaf ?? subleaf) === subleaf);

const hasBit = (value: number, bit: number): boolean => ((value >>> bit) & 1) !== 0;

/** Features that the model claims and the core lacks, as a user knows them. */
export function unmetClaims(model: CpuModel): string[] {
  const unmet: string[] = [];
  for (const { leaf, subleaf, register, names, has } of WORDS) {
    const claimed = find(model, leaf, subleaf)?.[register] ?? 0;
    for (let bit = 0; bit < 32; bit++) {
      if (!hasBit(claimed, bit)) continue;
      const name = names[bit] ?? "-";
      if (has.has(name)) continue;
      const place = `CPUID 0x${leaf.toString(16)}.${subleaf} ${register.toUpperCase()} bit ${bit}`;
      unmet.push(name === "-" ? place : `${name} (${place})`);
    }
  }
  const monitors = (find(model, 0xa, 0)?.eax ?? 0) & 0xff;
  if (monitors !== 0) unmet.push(`performance monitoring version ${monitors} (CPUID 0xa EAX)`);
  const widths = find(model, 0x8000_0008, 0)?.eax ?? 0;
  const physical = widths & 0xff;
  const linear = (widths >>> 8) & 0xff;
  if (physical > PHYSICAL_ADDRESS_BITS)
    unmet.push(`${physical} physical address bits (CPUID 0x80000008 EAX; it has ${PHYSICAL_ADDRESS_BITS})`);
  if (linear > LINEAR_ADDRESS_BITS)
    unmet.push(`${linear} linear address bits (CPUID 0x80000008 EAX; it has ${LINEAR_ADDRESS_BITS})`);
  return unmet;
}

/** Throws `NB_BACKEND` naming every feature that the model claims and the core lacks. */
export function assertClaimsMet(model: CpuModel): void {
  const unmet = unmetClaims(model);
  if (unmet.length > 0) {
    throw new NorthbridgeError(
      "NB_BACKEND",
      `CPU model ${model.name}: claims what the software CPU lacks: ${unmet.join(", ")}`,
    );
  }
}

/** `FEATURE_*` of the model: what it claims of the instructions that not every model has. */
export function featuresOf(model: CpuModel): number {
  const basic = find(model, 1, 0)?.ecx ?? 0;
  const extended = find(model, 0x8000_0001, 0)?.edx ?? 0;
  const structured = find(model, 7, 0)?.ecx ?? 0;
  return (
    (hasBit(basic, 1) ? L.FEATURE_PCLMULQDQ : 0) |
    (hasBit(basic, 22) ? L.FEATURE_MOVBE : 0) |
    (hasBit(basic, 25) ? L.FEATURE_AES : 0) |
    (hasBit(basic, 26) ? L.FEATURE_XSAVE : 0) |
    (hasBit(structured, 2) ? L.FEATURE_UMIP : 0) |
    (hasBit(extended, 27) ? L.FEATURE_RDTSCP : 0)
  );
}
