import type { KvmRegs, KvmSegment, KvmSregs } from "@northbridge/sdk";

/** `kvm_regs`, in the kernel's order: eight bytes each. */
const REGS = [
  "rax",
  "rbx",
  "rcx",
  "rdx",
  "rsi",
  "rdi",
  "rsp",
  "rbp",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
  "rip",
  "rflags",
] as const satisfies readonly (keyof KvmRegs)[];

/** `kvm_sregs`: the segments in order, 24 bytes each, then two tables, then registers. */
const SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"] as const;
const SEGMENT_BYTES = 24;
const GDT = 192;
const IDT = 208;
const CONTROL = 224;
const CONTROLS = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apicBase"] as const;
const INTERRUPT_BITMAP = 280;

export function decodeRegs(view: DataView): KvmRegs {
  return Object.fromEntries(
    REGS.map((name, i) => [name, view.getBigUint64(8 * i, true)]),
  ) as unknown as KvmRegs;
}

export function encodeRegs(view: DataView, regs: KvmRegs): void {
  REGS.forEach((name, i) => {
    view.setBigUint64(8 * i, regs[name], true);
  });
}

function decodeSegment(view: DataView, at: number): KvmSegment {
  const flag = (offset: number): boolean => view.getUint8(at + offset) !== 0;
  return {
    base: view.getBigUint64(at, true),
    limit: view.getUint32(at + 8, true),
    selector: view.getUint16(at + 12, true),
    type: view.getUint8(at + 14),
    present: flag(15),
    dpl: view.getUint8(at + 16),
    db: flag(17),
    s: flag(18),
    l: flag(19),
    g: flag(20),
    avl: flag(21),
    unusable: flag(22),
  };
}

function encodeSegment(view: DataView, at: number, segment: KvmSegment): void {
  view.setBigUint64(at, segment.base, true);
  view.setUint32(at + 8, segment.limit, true);
  view.setUint16(at + 12, segment.selector, true);
  const bytes = [
    segment.type,
    segment.present,
    segment.dpl,
    segment.db,
    segment.s,
    segment.l,
    segment.g,
    segment.avl,
    segment.unusable,
    0,
  ];
  bytes.forEach((value, i) => {
    view.setUint8(at + 14 + i, Number(value));
  });
}

export function decodeSregs(view: DataView): KvmSregs {
  const table = (at: number): KvmSregs["gdt"] => ({
    base: view.getBigUint64(at, true),
    limit: view.getUint16(at + 8, true),
  });
  return {
    ...Object.fromEntries(SEGMENTS.map((name, i) => [name, decodeSegment(view, SEGMENT_BYTES * i)])),
    gdt: table(GDT),
    idt: table(IDT),
    ...Object.fromEntries(CONTROLS.map((name, i) => [name, view.getBigUint64(CONTROL + 8 * i, true)])),
  } as unknown as KvmSregs;
}

/** No external interrupt is pending in what this writes: `kvm_sregs.interrupt_bitmap` is clear. */
export function encodeSregs(view: DataView, sregs: KvmSregs): void {
  SEGMENTS.forEach((name, i) => {
    encodeSegment(view, SEGMENT_BYTES * i, sregs[name]);
  });
  for (const [at, table] of [
    [GDT, sregs.gdt],
    [IDT, sregs.idt],
  ] as const) {
    view.setBigUint64(at, table.base, true);
    view.setUint16(at + 8, table.limit, true);
  }
  CONTROLS.forEach((name, i) => {
    view.setBigUint64(CONTROL + 8 * i, sregs[name], true);
  });
  for (let i = 0; i < 4; i++) view.setBigUint64(INTERRUPT_BITMAP + 8 * i, 0n, true);
}
