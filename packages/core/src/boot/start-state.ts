import type { KvmRegs, KvmSegment, VcpuState } from "../contracts/index.ts";

const MSR_SYSENTER_CS = 0x174;
const MSR_SYSENTER_ESP = 0x175;
const MSR_SYSENTER_EIP = 0x176;
const MSR_PAT = 0x277;
const MSR_STAR = 0xc000_0081;
const MSR_LSTAR = 0xc000_0082;
const MSR_CSTAR = 0xc000_0083;
const MSR_SFMASK = 0xc000_0084;
const MSR_KERNEL_GS_BASE = 0xc000_0102;
/** Intel SDM 3A §13.12.4. */
const PAT_AT_RESET = 0x0007_0406_0007_0406n;

export const CR0_PE: bigint = 1n << 0n;
export const CR0_ET: bigint = 1n << 4n;
export const CR0_PG: bigint = 1n << 31n;
export const CR4_PAE: bigint = 1n << 5n;
export const EFER_LME: bigint = 1n << 8n;
export const EFER_LMA: bigint = 1n << 10n;
/** CD, NW and ET: what CR0 holds after a reset (Intel SDM 3A table 11-1). */
const CR0_AT_RESET = 0x6000_0010n;
/** Bit 1 is always set. */
export const RFLAGS_AT_RESET = 0x2n;

const APIC_BASE = 0xfee0_0000n;
const APIC_BASE_BSP = 1n << 8n;
const APIC_BASE_ENABLE = 1n << 11n;

/** Segment types of Intel SDM 3A §3.4.5.1 and §3.5, accessed or busy, as a loaded register has them. */
const TYPE_DATA = 0x3;
const TYPE_CODE = 0xb;
const TYPE_LDT = 0x2;
const TYPE_BUSY_TSS = 0xb;

/** `__BOOT_CS` and `__BOOT_DS` (Linux, Documentation/arch/x86/boot.rst). */
export const BOOT_CS = 0x10;
export const BOOT_DS = 0x18;

/** State of a vCPU after power-on (Intel SDM 3A table 11-1). Those other than 0 wait for SIPI. */
export function powerOnState(index: number): VcpuState {
  const data = segment({ type: TYPE_DATA });
  return {
    version: 1,
    regs: registers({ rip: 0xfff0n, rdx: 0x600n }),
    sregs: {
      cs: segment({ type: TYPE_CODE, selector: 0xf000, base: 0xffff_0000n }),
      ds: data,
      es: data,
      fs: data,
      gs: data,
      ss: data,
      tr: segment({ type: TYPE_BUSY_TSS, s: false }),
      ldt: segment({ type: TYPE_LDT, s: false }),
      gdt: { base: 0n, limit: 0xffff },
      idt: { base: 0n, limit: 0xffff },
      cr0: CR0_AT_RESET,
      cr2: 0n,
      cr3: 0n,
      cr4: 0n,
      cr8: 0n,
      efer: 0n,
      apicBase: APIC_BASE | APIC_BASE_ENABLE | (index === 0 ? APIC_BASE_BSP : 0n),
    },
    fxsave: fxsaveAtReset(),
    xcr0: 1n,
    msrs: [
      [MSR_SYSENTER_CS, 0n],
      [MSR_SYSENTER_ESP, 0n],
      [MSR_SYSENTER_EIP, 0n],
      [MSR_PAT, PAT_AT_RESET],
      [MSR_STAR, 0n],
      [MSR_LSTAR, 0n],
      [MSR_CSTAR, 0n],
      [MSR_SFMASK, 0n],
      [MSR_KERNEL_GS_BASE, 0n],
    ],
    lapic: lapicAtReset(index),
    events: { nmiPending: false, nmiMasked: false, interruptShadow: false },
    debugregs: { db: [0n, 0n, 0n, 0n], dr6: 0xffff_0ff0n, dr7: 0x400n },
    mpState: index === 0 ? "runnable" : "waitForSipi",
    tsc: 0n,
  };
}

/** How a vCPU starts: registers and processor mode. The rest is as after reset. */
export type StartState = Pick<VcpuState, "regs" | "sregs">;

/** Real mode at `entry`, below 1 MiB, with a 64 KiB code segment on the paragraph that holds it and the stack at 0:7C00. */
export function realModeState(entry: number): StartState {
  const { sregs } = powerOnState(0);
  const selector = (entry >>> 16) << 12;
  return {
    regs: registers({ rip: BigInt(entry & 0xffff), rsp: 0x7c00n }),
    sregs: {
      ...sregs,
      cs: segment({ type: TYPE_CODE, selector, base: BigInt(selector) << 4n }),
      idt: { base: 0n, limit: 0x3ff },
      cr0: CR0_ET,
    },
  };
}

/** Flat 32-bit protected mode without paging, interrupts off. */
export function protectedModeState(entry: number, gdt: Gdt, set: Partial<KvmRegs> = {}): StartState {
  const { sregs } = powerOnState(0);
  const data = flatSegment({ type: TYPE_DATA, selector: BOOT_DS, db: true });
  return {
    regs: registers({ ...set, rip: BigInt(entry) }),
    sregs: {
      ...sregs,
      ...{ ds: data, es: data, fs: data, gs: data, ss: data },
      cs: flatSegment({ type: TYPE_CODE, selector: BOOT_CS, db: true }),
      tr: segment({ type: TYPE_BUSY_TSS, s: false, limit: 0x67 }),
      ldt: segment({ type: TYPE_LDT, s: false, unusable: true, present: false, limit: 0 }),
      gdt: { base: BigInt(gdt.gpa), limit: gdt.limit },
      idt: { base: 0n, limit: 0 },
      cr0: CR0_PE | CR0_ET,
    },
  };
}

/** 64-bit mode over the page tables at `pageTableGpa`, interrupts off. */
export function longModeState(
  entry: number,
  gdt: Gdt,
  pageTableGpa: number,
  set: Partial<KvmRegs> = {},
): StartState {
  const { regs, sregs } = protectedModeState(entry, gdt, set);
  return {
    regs,
    sregs: {
      ...sregs,
      cs: flatSegment({ type: TYPE_CODE, selector: BOOT_CS, l: true }),
      cr0: CR0_PE | CR0_ET | CR0_PG,
      cr3: BigInt(pageTableGpa),
      cr4: CR4_PAE,
      efer: EFER_LME | EFER_LMA,
    },
  };
}

/** Where the descriptors for {@link BOOT_CS} and {@link BOOT_DS} lie. */
export interface Gdt {
  readonly gpa: number;
  readonly limit: number;
}

const NO_REGISTERS: KvmRegs = {
  rax: 0n,
  rbx: 0n,
  rcx: 0n,
  rdx: 0n,
  rsi: 0n,
  rdi: 0n,
  rsp: 0n,
  rbp: 0n,
  r8: 0n,
  r9: 0n,
  r10: 0n,
  r11: 0n,
  r12: 0n,
  r13: 0n,
  r14: 0n,
  r15: 0n,
  rip: 0n,
  rflags: RFLAGS_AT_RESET,
};

function registers(set: Partial<KvmRegs>): KvmRegs {
  return { ...NO_REGISTERS, ...set };
}

/** A 64 KiB, present segment at 0, but for what `set` says. */
function segment(set: Partial<KvmSegment> & Pick<KvmSegment, "type">): KvmSegment {
  return {
    base: 0n,
    limit: 0xffff,
    selector: 0,
    present: true,
    dpl: 0,
    db: false,
    s: true,
    l: false,
    g: false,
    avl: false,
    unusable: false,
    ...set,
  };
}

function flatSegment(set: Partial<KvmSegment> & Pick<KvmSegment, "type">): KvmSegment {
  return segment({ limit: 0xffff_ffff, g: true, ...set });
}

/** FXSAVE image after power-on: FCW 0x40, all registers +0.0 and tagged so, MXCSR 0x1F80 (Intel SDM 3A table 11-1). */
function fxsaveAtReset(): string {
  const image = new DataView(new ArrayBuffer(512));
  image.setUint16(0, 0x0040, true);
  image.setUint8(4, 0xff);
  image.setUint32(24, 0x1f80, true);
  image.setUint32(28, 0xffff, true);
  return Buffer.from(image.buffer).toString("base64");
}

/** Intel SDM 3A §12.4.7.1: the local APIC after power-on, software-disabled and with all local vectors masked. */
function lapicAtReset(index: number): string {
  const ID = 0x20;
  const VERSION = 0x30;
  const DFR = 0xe0;
  const SVR = 0xf0;
  const LVT_FIRST = 0x320;
  const LVT_LAST = 0x370;
  const LVT_MASKED = 1 << 16;
  const page = new DataView(new ArrayBuffer(1024));
  page.setUint32(ID, (index << 24) >>> 0, true);
  // Version 0x14 with entries 0 to 5 of the local vector table.
  page.setUint32(VERSION, 0x0005_0014, true);
  page.setUint32(DFR, 0xffff_ffff, true);
  page.setUint32(SVR, 0xff, true);
  for (let lvt = LVT_FIRST; lvt <= LVT_LAST; lvt += 0x10) page.setUint32(lvt, LVT_MASKED, true);
  return Buffer.from(page.buffer).toString("base64");
}
