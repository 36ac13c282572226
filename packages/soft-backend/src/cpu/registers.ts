import type { KvmRegs, KvmSegment, KvmSregs } from "@northbridge/sdk";
import * as L from "./layout.ts";

/** `KvmRegs` in the core's encoding order. */
export const GPR_NAMES: readonly Exclude<keyof KvmRegs, "rip" | "rflags">[] = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
];

/** `KvmSregs` in the core's segment order. */
const SEGMENT_NAMES = [
  "es",
  "cs",
  "ss",
  "ds",
  "fs",
  "gs",
  "ldt",
  "tr",
] as const satisfies readonly (keyof KvmSregs)[];

const CONTROL_FIELDS = { cr0: L.CR0, cr2: L.CR2, cr3: L.CR3, cr4: L.CR4, cr8: L.CR8, efer: L.EFER } as const;

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);

export function readRegs(view: DataView, state: number): KvmRegs {
  const field = (address: number): bigint => view.getBigUint64(state + address - L.STATE, true);
  const general = Object.fromEntries(GPR_NAMES.map((name, index) => [name, field(L.GPR + index * 8)]));
  return { ...(general as Omit<KvmRegs, "rip" | "rflags">), rip: field(L.RIP), rflags: field(L.RFLAGS) };
}

export function writeRegs(view: DataView, state: number, regs: KvmRegs): void {
  const set = (address: number, value: bigint): void => {
    view.setBigUint64(state + address - L.STATE, u64(value), true);
  };
  GPR_NAMES.forEach((name, index) => {
    set(L.GPR + index * 8, regs[name]);
  });
  set(L.RIP, regs.rip);
  set(L.RFLAGS, (regs.rflags & 0x3f_7fd5n) | 2n); // reserved bits are as hardware has them (SDM 1 §3.4.3)
}

function readSegment(view: DataView, address: number): KvmSegment {
  const attributes = view.getUint32(address + L.SEG_ATTR, true);
  const bit = (position: number): boolean => ((attributes >>> position) & 1) !== 0;
  return {
    base: view.getBigUint64(address + L.SEG_BASE, true),
    limit: view.getUint32(address + L.SEG_LIMIT, true),
    selector: view.getUint16(address + L.SEG_SELECTOR, true),
    type: attributes & 0xf,
    s: bit(4),
    dpl: (attributes >> 5) & 3,
    present: bit(7),
    avl: bit(12),
    l: bit(13),
    db: bit(14),
    g: bit(15),
    unusable: bit(16),
  };
}

function writeSegment(view: DataView, address: number, segment: KvmSegment): void {
  const bit = (value: boolean, position: number): number => (value ? 1 << position : 0);
  const attributes =
    (segment.type & 0xf) |
    bit(segment.s, 4) |
    ((segment.dpl & 3) << 5) |
    bit(segment.present, 7) |
    bit(segment.avl, 12) |
    bit(segment.l, 13) |
    bit(segment.db, 14) |
    bit(segment.g, 15) |
    bit(segment.unusable, 16);
  view.setBigUint64(address + L.SEG_BASE, u64(segment.base), true);
  view.setUint32(address + L.SEG_LIMIT, segment.limit, true);
  view.setUint32(address + L.SEG_ATTR, attributes, true);
  view.setUint16(address + L.SEG_SELECTOR, segment.selector, true);
}

/** Everything of `KvmSregs` that lives in the core. */
export function readSregs(view: DataView, state: number): Omit<KvmSregs, "apicBase"> {
  const at = (address: number): number => state + address - L.STATE;
  const segments = Object.fromEntries(
    SEGMENT_NAMES.map((name, index) => [name, readSegment(view, at(L.SEG + index * L.SEG_SIZE))]),
  );
  const control = Object.fromEntries(
    Object.entries(CONTROL_FIELDS).map(([name, address]) => [name, view.getBigUint64(at(address), true)]),
  );
  const table = (address: number): { base: bigint; limit: number } => ({
    base: view.getBigUint64(at(address), true),
    limit: view.getUint32(at(address) + 8, true),
  });
  return {
    ...(segments as Pick<KvmSregs, (typeof SEGMENT_NAMES)[number]>),
    ...(control as Pick<KvmSregs, keyof typeof CONTROL_FIELDS>),
    gdt: table(L.GDTR),
    idt: table(L.IDTR),
  };
}

export function writeSregs(view: DataView, state: number, sregs: Omit<KvmSregs, "apicBase">): void {
  const at = (address: number): number => state + address - L.STATE;
  SEGMENT_NAMES.forEach((name, index) => {
    writeSegment(view, at(L.SEG + index * L.SEG_SIZE), sregs[name]);
  });
  for (const [name, address] of Object.entries(CONTROL_FIELDS)) {
    view.setBigUint64(at(address), u64(sregs[name as keyof typeof CONTROL_FIELDS]), true);
  }
  for (const [address, table] of [
    [L.GDTR, sregs.gdt],
    [L.IDTR, sregs.idt],
  ] as const) {
    view.setBigUint64(at(address), u64(table.base), true);
    view.setUint32(at(address) + 8, table.limit, true);
  }
}

/** Where a start-up IPI begins: CS base `page << 12`, IP 0, real mode (SDM 3A §9.4.4). */
export function writeRealModeCodeSegment(view: DataView, state: number, page: number): void {
  const at = (address: number): number => state + address - L.STATE;
  const cs = at(L.SEG + L.SEG_SIZE * SEGMENT_NAMES.indexOf("cs"));
  view.setBigUint64(cs + L.SEG_BASE, BigInt(page) << 12n, true);
  view.setUint16(cs + L.SEG_SELECTOR, page << 8, true);
  view.setBigUint64(at(L.RIP), 0n, true);
}
