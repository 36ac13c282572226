/** Offsets of the local APIC's registers in its 4 KiB page (Intel SDM 3A, table 11-1). */
export const Reg = {
  ID: 0x20,
  VERSION: 0x30,
  TPR: 0x80,
  APR: 0x90,
  PPR: 0xa0,
  EOI: 0xb0,
  RRD: 0xc0,
  LDR: 0xd0,
  DFR: 0xe0,
  SVR: 0xf0,
  ISR: 0x100,
  TMR: 0x180,
  IRR: 0x200,
  ESR: 0x280,
  LVT_CMCI: 0x2f0,
  ICR: 0x300,
  ICR_HIGH: 0x310,
  LVT_TIMER: 0x320,
  LVT_THERMAL: 0x330,
  LVT_PERF: 0x340,
  LVT_LINT0: 0x350,
  LVT_LINT1: 0x360,
  LVT_ERROR: 0x370,
  TIMER_INITIAL: 0x380,
  TIMER_CURRENT: 0x390,
  TIMER_DIVIDE: 0x3e0,
  /** x2APIC only. */
  SELF_IPI: 0x3f0,
} as const;

/** Bytes of the register page that `KVM_GET_LAPIC` saves. */
export const SAVED_PAGE_BYTES = 0x400;

/** Integrated APIC, six LVT entries, no EOI-broadcast suppression (SDM 3A §11.4.8). */
export const VERSION_VALUE = 0x0005_0014;

/** Local vector table and interrupt command bits (SDM 3A §11.5.1, §11.6.1). */
export const Lvt = {
  VECTOR: 0xff,
  MODE: 0x700,
  PENDING: 1 << 12,
  ACTIVE_LOW: 1 << 13,
  REMOTE_IRR: 1 << 14,
  LEVEL: 1 << 15,
  MASKED: 1 << 16,
  TIMER_MODE: 3 << 17,
  TIMER_ONE_SHOT: 0 << 17,
  TIMER_PERIODIC: 1 << 17,
  TIMER_TSC_DEADLINE: 2 << 17,
} as const;

/** Writable bits of each local vector table entry. */
export const LvtWritable = {
  TIMER: 0x0007_00ff,
  THERMAL: 0x0001_07ff,
  PERF: 0x0001_07ff,
  LINT: 0x0001_a7ff,
  ERROR: 0x0001_00ff,
} as const;

/** Delivery modes, as bits 8–10 give them (SDM 3A §11.6.1). */
export const DeliveryMode = {
  FIXED: 0,
  LOWEST_PRIORITY: 1,
  SMI: 2,
  NMI: 4,
  INIT: 5,
  SIPI: 6,
  EXT_INT: 7,
} as const;

export const Icr = {
  LOGICAL: 1 << 11,
  PENDING: 1 << 12,
  ASSERT: 1 << 14,
  LEVEL: 1 << 15,
  SHORTHAND: 3 << 18,
  WRITABLE: 0x000c_cfff,
} as const;

export const Svr = { ENABLED: 1 << 8, WRITABLE: 0x3ff } as const;

/** Error status bits (SDM 3A §11.5.3). */
export const Esr = { SEND_ILLEGAL_VECTOR: 1 << 5, RECEIVE_ILLEGAL_VECTOR: 1 << 6, ILLEGAL_REGISTER: 1 << 7 } as const;

/** IA32_APIC_BASE (SDM 3A §11.4.4). */
export const ApicBase = {
  DEFAULT: 0xfee0_0000,
  BSP: 1 << 8,
  X2APIC: 1 << 10,
  ENABLED: 1 << 11,
} as const;

/** Destination that means every APIC. */
export const BROADCAST_XAPIC = 0xff;
export const BROADCAST_X2APIC = 0xffff_ffff;
