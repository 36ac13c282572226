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
  PENDING: 0x1000,
  ACTIVE_LOW: 0x2000,
  REMOTE_IRR: 0x4000,
  LEVEL: 0x8000,
  MASKED: 0x10000,
  TIMER_MODE: 0x60000,
  TIMER_ONE_SHOT: 0x0,
  TIMER_PERIODIC: 0x20000,
  TIMER_TSC_DEADLINE: 0x40000,
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
  LOGICAL: 0x800,
  PENDING: 0x1000,
  ASSERT: 0x4000,
  LEVEL: 0x8000,
  SHORTHAND: 0xc0000,
  WRITABLE: 0x000c_cfff,
} as const;

export const Svr = { ENABLED: 0x100, WRITABLE: 0x3ff } as const;

/** Error status bits (SDM 3A §11.5.3). */
export const Esr = {
  SEND_ILLEGAL_VECTOR: 0x20,
  RECEIVE_ILLEGAL_VECTOR: 0x40,
  ILLEGAL_REGISTER: 0x80,
} as const;

/** IA32_APIC_BASE (SDM 3A §11.4.4). */
export const ApicBase = {
  DEFAULT: 0xfee0_0000,
  BSP: 0x100,
  X2APIC: 0x400,
  ENABLED: 0x800,
} as const;

/** Destination that means every APIC. */
export const BROADCAST_XAPIC = 0xff;
export const BROADCAST_X2APIC = 0xffff_ffff;
