/** Where a conformance guest's tables and pages lie: guest-physical, and linear too but for `WINDOW`. */
export const Gpa = {
  GDT: 0x1000,
  TSS: 0x1800,
  IDT: 0x2000,
  /** Page of the real-mode trampoline: SIPI vector 8. */
  TRAMPOLINE: 0x8000,
  CODE: 0x10000,
  /** Scratch that programs read and write. */
  DATA: 0x90000,
  PML4: 0x100000,
  PDPT: 0x101000,
  /** Four page directories: 4 GiB, identity, 2 MiB pages. */
  PD: 0x102000,
  WINDOW_PDPT: 0x106000,
  WINDOW_PD: 0x107000,
  /** Page table of `WINDOW`: its entry `i` maps page `i`. */
  WINDOW_PT: 0x108000,
  /** Pages for `WINDOW` to map. */
  PAGES: 0x200000,
  RAM: 0x400000,
} as const;

/** Linear address of 512 pages of 4 KiB that programs map as they like. */
export const WINDOW = 0x80_0000_0000;
/** Answers as a test device; see `GuestBench.mmio`. */
export const TEST_MMIO = 0xd000_0000;
export const LAPIC = 0xfee0_0000;
export const IOAPIC = 0xfec0_0000;

export const kernelStack = (cpu: number): number => 0x50000 + cpu * 0x4000;
/** Top of interrupt stack `n` (1–7) of vCPU 0. */
export const interruptStack = (n: number): number => 0x70000 + n * 0x1000;
export const USER_STACK = 0x80000;

/** Selectors, in the order that SYSCALL, SYSRET, SYSENTER and SYSEXIT expect. */
export const Selector = {
  KERNEL_CODE: 0x08,
  KERNEL_DATA: 0x10,
  USER_CODE32: 0x1b,
  USER_DATA: 0x23,
  USER_CODE: 0x2b,
  USER_DATA2: 0x33,
  KERNEL_CODE32: 0x38,
  KERNEL_CODE16: 0x40,
  KERNEL_DATA16: 0x48,
  /** Descriptors whose present bit is clear. */
  ABSENT_DATA: 0x50,
  ABSENT_CODE: 0x58,
  READ_ONLY_DATA: 0x60,
  /** 16 bytes for each vCPU. */
  TSS: 0x80,
} as const;
export const GDT_LIMIT = 0xff;

/** Ports of the test device, aligned so that 32-bit writes to them are one access everywhere. */
export const Port = {
  /** A value for the test. */
  REPORT: 0xe0,
  /** One exception: vector, error code, RIP, CS, CR2 (low halves), in this order. */
  TRAP: 0xe4,
  /** Bit 8 is the level that GSI bits 0–7 takes. */
  IRQ: 0xe8,
  /** Runs an action of the test. */
  ACTION: 0xfc,
  /** The program is over. */
  DONE: 0xec,
  /** Registers for port I/O tests: accesses are logged. */
  SCRATCH: 0x300,
} as const;

export const PTE = { P: 1, RW: 2, US: 4, A: 0x20, D: 0x40, PS: 0x80, G: 0x100 } as const;
export const NX: bigint = 1n << 63n;
