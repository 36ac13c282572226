/** Model-specific registers by their names in Intel SDM 4, table 2-2. */
export const Msr = {
  IA32_TIME_STAMP_COUNTER: 0x10,
  IA32_PLATFORM_ID: 0x17,
  IA32_APIC_BASE: 0x1b,
  MSR_SMI_COUNT: 0x34,
  IA32_FEATURE_CONTROL: 0x3a,
  IA32_TSC_ADJUST: 0x3b,
  IA32_SPEC_CTRL: 0x48,
  IA32_PRED_CMD: 0x49,
  IA32_BIOS_SIGN_ID: 0x8b,
  MSR_PLATFORM_INFO: 0xce,
  IA32_MTRRCAP: 0xfe,
  IA32_ARCH_CAPABILITIES: 0x10a,
  IA32_FLUSH_CMD: 0x10b,
  MSR_MISC_FEATURES_ENABLES: 0x140,
  IA32_SYSENTER_CS: 0x174,
  IA32_SYSENTER_ESP: 0x175,
  IA32_SYSENTER_EIP: 0x176,
  IA32_MCG_CAP: 0x179,
  IA32_MCG_STATUS: 0x17a,
  IA32_MISC_ENABLE: 0x1a0,
  IA32_DEBUGCTL: 0x1d9,
  IA32_MTRR_PHYSBASE0: 0x200,
  IA32_MTRR_FIX64K_00000: 0x250,
  IA32_MTRR_FIX16K_80000: 0x258,
  IA32_MTRR_FIX16K_A0000: 0x259,
  IA32_MTRR_FIX4K_C0000: 0x268,
  IA32_PAT: 0x277,
  IA32_MTRR_DEF_TYPE: 0x2ff,
  IA32_TSC_DEADLINE: 0x6e0,
  X2APIC_FIRST: 0x800,
  X2APIC_LAST: 0x8ff,
  IA32_STAR: 0xc000_0081,
  IA32_LSTAR: 0xc000_0082,
  IA32_CSTAR: 0xc000_0083,
  IA32_FMASK: 0xc000_0084,
  IA32_KERNEL_GS_BASE: 0xc000_0102,
  IA32_TSC_AUX: 0xc000_0103,
} as const;

/** Variable-range MTRR pairs. */
export const VARIABLE_MTRRS = 8;

/** Eight variable ranges, fixed ranges, write combining (SDM 3A §12.11.1). */
export const MTRRCAP_VALUE = 0x508;

/** Fast strings are enabled; no branch trace, no precise sampling. */
export const MISC_ENABLE_RESET = 0x1801;

/** Locked with VMX off (SDM 3C §24.7). */
export const FEATURE_CONTROL_VALUE = 1;

/** Maximum non-turbo ratio 10 in bits 8–15: 10 × 100 MHz. */
export const PLATFORM_INFO_VALUE = 0xa00;

/** IA32_ARCH_CAPABILITIES (SDM 4, table 2-2): what an interpreter is immune to. See docs/adr on the CPU model. */
export const ArchCapabilities = {
  /** RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO. */
  LOW: 0x0d10_e17b,
  /** ITS_NO (bit 62). */
  HIGH: 0x4000_0000,
} as const;
