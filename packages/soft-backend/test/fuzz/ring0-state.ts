import type { KvmSegment, VcpuState } from "@northbridge/sdk";
import type { Random } from "./random.ts";

/** Memory that the state lives in: one megabyte, of which page tables, descriptor tables and code take some pages. */
export const RAM_BYTES = 0x10_0000;
const PAGE_TABLES = 0x1_0000;
const PAGE_TABLE_PAGES = 8;
const ENTRIES = 400;
const GDT = 0x2_0000;
const LDT = 0x2_2000;
const IDT = 0x2_4000;
const TSS = 0x2_6000;
const CODE = 0x3_0000;
const CODE_BYTES = 0x2000;
const STACK = 0x4_0000;

/** Instructions of ring 0 that read what is garbage here, with operands to follow. */
const SYSTEM_CODE: readonly (readonly number[])[] = [
  [0xcf],
  [0x48, 0xcf],
  [0x66, 0xcf],
  [0xcb],
  [0x48, 0xcb],
  [0xcc],
  [0xcd],
  [0xce],
  [0xf1],
  [0xea],
  [0x9a],
  [0xff, 0x2b],
  [0xff, 0x1b],
  [0x48, 0xff, 0x2b],
  [0x0f, 0x00, 0xd8],
  [0x0f, 0x00, 0xd0],
  [0x0f, 0x00, 0xe0],
  [0x0f, 0x02, 0xc1],
  [0x0f, 0x03, 0xc1],
  [0x0f, 0x01, 0x13],
  [0x0f, 0x01, 0x1b],
  [0x0f, 0x01, 0x3b],
  [0x0f, 0x01, 0xf0],
  [0x0f, 0x22, 0xc0],
  [0x0f, 0x22, 0xd8],
  [0x0f, 0x22, 0xe0],
  [0x0f, 0x23, 0xf8],
  [0x0f, 0x23, 0xc0],
  [0x0f, 0x30],
  [0x0f, 0x32],
  [0x0f, 0x05],
  [0x0f, 0x07],
  [0x48, 0x0f, 0x07],
  [0x0f, 0x34],
  [0x0f, 0x35],
  [0x0f, 0x01, 0xf8],
  [0x0f, 0x06],
  [0x0f, 0xae, 0x03],
  [0x0f, 0xae, 0x0b],
  [0xdd, 0x23],
  [0xdd, 0x33],
  [0x9b],
  [0x8e, 0xd0],
  [0x8e, 0xd8],
  [0x0f, 0xb2, 0x23],
  [0x17],
  [0x1f],
  [0x9d],
  [0x9c],
  [0xfb],
  [0xfa],
  [0xf4],
  [0xf3, 0xa4],
  [0xf3, 0xaa],
  [0xf3, 0xa5],
  [0xf3, 0x6d],
  [0xc8, 0x10, 0x00, 0x05],
  [0x60],
  [0x61],
  [0x0f, 0xc7, 0x0b],
  [0x48, 0x0f, 0xc7, 0x0b],
  [0x01, 0x03],
  [0x89, 0x07],
  [0x50],
  [0x58],
  [0xc3],
  [0xe8],
  [0xeb],
];

const MSRS = [
  0x1b, 0x10, 0x277, 0x174, 0x6e0, 0x802, 0x830, 0xc000_0080, 0xc000_0081, 0xc000_0082, 0xc000_0100,
];

/** A physical address: mostly of a page here, at times of a hole, of the local APIC, or of nothing at all. */
function address(random: Random): bigint {
  const kind = random.below(20);
  if (kind < 12) return BigInt(PAGE_TABLES + (random.below(PAGE_TABLE_PAGES) << 12));
  if (kind < 17) return BigInt(random.below(RAM_BYTES >> 12) << 12);
  if (kind === 17) return 0xfee0_0000n;
  if (kind === 18) return BigInt(random.u32()) << 12n;
  return random.u64() & 0x000f_ffff_ffff_f000n;
}

/** A linear address: mostly low, at times at an edge. */
function linear(random: Random): bigint {
  if (random.chance(85)) return BigInt(random.below(RAM_BYTES));
  return random.pick([
    0xffff_fff8n,
    0xffff_ffffn,
    0x7fff_ffff_fffcn,
    0x8000_0000_0000n,
    0xffff_8000_0000_0000n,
    0xffff_ffff_ffff_fffcn,
  ]);
}

function fillPageTables(random: Random, view: DataView): void {
  for (let count = 0; count < ENTRIES; count++) {
    const slot = random.chance(50) ? random.below(8) : random.below(512);
    const at = PAGE_TABLES + (random.below(PAGE_TABLE_PAGES) << 12) + 8 * slot;
    let entry = address(random) | BigInt(random.chance(90) ? 0x67 : random.below(0x1000));
    if (random.chance(6)) entry |= 0x80n;
    if (random.chance(3)) entry |= 1n << 63n;
    view.setBigUint64(at, entry, true);
  }
}

/** A descriptor or gate of any type, with selectors and offsets that lead to others. */
function descriptor(random: Random): bigint {
  if (random.chance(5)) return random.u64();
  const type = random.chance(60) ? 0x10 | random.below(16) : random.below(16);
  const access = (random.chance(90) ? 0x80 : 0) | (random.below(4) << 5) | type;
  const isGate =
    type === 4 || type === 5 || type === 6 || type === 7 || type === 12 || type === 14 || type === 15;
  const low = isGate
    ? (selector(random) << 16) | random.below(0x1_0000)
    : random.chance(80)
      ? 0xffff
      : random.below(0x1_0000);
  const high = isGate
    ? (access << 8) | (random.chance(70) ? CODE & 0xffff_0000 : random.u32() & 0xffff_0000) | random.below(8)
    : (access << 8) | (random.below(16) << 20) | (random.chance(80) ? 0xf_0000 : 0);
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

function selector(random: Random): number {
  return (random.below(64) << 3) | (random.chance(20) ? 4 : 0) | (random.chance(70) ? 0 : random.below(4));
}

/** A gate of the mode to handlers in the code, with the flat code segment that `fillTables` leaves at 8. */
function gate(random: Random, isLong: boolean): bigint {
  const type = random.pick(isLong ? [14, 15] : [14, 15, 6, 7, 5]);
  const handler = CODE + random.below(CODE_BYTES);
  const access = 0x80 | (random.below(4) << 5) | type;
  const target = type === 5 ? selector(random) : 8;
  return (
    (BigInt(((handler & 0xffff_0000) | (access << 8)) >>> 0) << 32n) |
    BigInt(((target << 16) | (handler & 0xffff)) >>> 0)
  );
}

function fillTables(random: Random, view: DataView, isLong: boolean): void {
  for (const table of [GDT, LDT])
    for (let at = 0; at < 0x200; at += 8) view.setBigUint64(table + at, descriptor(random), true);
  if (random.chance(80))
    view.setBigUint64(GDT + 8, isLong ? 0x00af_9b00_0000_ffffn : 0x00cf_9b00_0000_ffffn, true);
  const step = isLong ? 16 : 8;
  for (let vector = 0; vector < 48; vector++)
    view.setBigUint64(
      IDT + step * vector,
      random.chance(75) ? gate(random, isLong) : descriptor(random),
      true,
    );
  for (let at = 0; at < 0x80; at += 4) {
    const value = random.chance(50) ? Number(linear(random) & 0xffff_ffffn) : selector(random);
    view.setUint32(TSS + at, random.chance(10) ? random.u32() : value, true);
  }
}

function fillCode(random: Random, ram: Uint8Array): void {
  for (let at = CODE; at < CODE + CODE_BYTES; ) {
    const bytes = random.chance(70) ? random.pick(SYSTEM_CODE) : [random.below(256)];
    ram.set(bytes, at);
    at += bytes.length;
    if (random.chance(40)) ram[at++] = random.below(256);
  }
  for (let at = STACK - 0x400; at < STACK; at += 4) {
    const value = random.chance(50) ? selector(random) : Number(linear(random) & 0xffff_ffffn);
    new DataView(ram.buffer, ram.byteOffset).setUint32(at, random.chance(15) ? random.u32() : value, true);
  }
}

function segment(random: Random, isCode: boolean): KvmSegment {
  const isSane = random.chance(80);
  return {
    base: random.chance(85) ? 0n : linear(random),
    limit: random.chance(85) ? 0xffff_ffff : random.u32(),
    selector: selector(random),
    type: isSane ? (isCode ? 11 : 3) : random.below(16),
    present: isSane || random.chance(50),
    dpl: random.chance(80) ? 0 : random.below(4),
    db: random.chance(60),
    s: isSane || random.chance(50),
    l: isCode && random.chance(50),
    g: true,
    avl: false,
    unusable: !isCode && random.chance(10),
  };
}

const withChance = (random: Random, ...bits: readonly (readonly [percent: number, bit: bigint])[]): bigint =>
  bits.reduce((sum, [percent, bit]) => (random.chance(percent) ? sum | bit : sum), 0n);

/** Fills memory with tables that are almost right, and returns a state that uses them at CPL 0. */
export function garbageState(random: Random, ram: Uint8Array, start: VcpuState): VcpuState {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  fillPageTables(random, view);
  const paging = withChance(random, [70, 0x8000_0000n]);
  const isLong = paging !== 0n && random.chance(60);
  fillTables(random, view, isLong);
  fillCode(random, ram);
  // A first megabyte that maps itself, in front of the garbage: otherwise most states die before the first instruction.
  if (random.chance(80)) {
    const table = PAGE_TABLES + 0x3000;
    for (let level = 0; level < 3; level++)
      view.setBigUint64(PAGE_TABLES + (level << 12), BigInt(PAGE_TABLES + ((level + 1) << 12)) | 0x67n, true);
    for (let page = 0; page < 256; page++)
      if (random.chance(97)) view.setBigUint64(table + 8 * page, BigInt(page << 12) | 0x67n, true);
  }
  const general = Object.fromEntries(
    "rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15"
      .split(" ")
      .map((name) => [name, random.chance(60) ? linear(random) : BigInt(selector(random))]),
  );
  return {
    ...start,
    regs: {
      ...start.regs,
      ...general,
      rcx: random.chance(50) ? BigInt(random.pick(MSRS)) : linear(random),
      rsp: random.chance(90) ? BigInt(STACK - random.below(0x200)) : linear(random),
      rip: random.chance(95) ? BigInt(CODE + random.below(CODE_BYTES)) : linear(random),
      rflags:
        2n |
        withChance(
          random,
          [40, 0x200n],
          [5, 0x100n],
          [5, 0x4000n],
          [5, 0x400n],
          [5, 0x4_0000n],
          [1, 0x2_0000n],
          [10, 0x3000n],
        ),
    },
    sregs: {
      ...start.sregs,
      cs: { ...segment(random, true), l: isLong && random.chance(80) },
      ds: segment(random, false),
      es: segment(random, false),
      fs: segment(random, false),
      gs: segment(random, false),
      ss: segment(random, false),
      tr: {
        ...segment(random, false),
        base: BigInt(TSS),
        limit: 0x67,
        type: random.pick([1, 3, 9, 11, 2]),
        s: false,
      },
      ldt: { ...segment(random, false), base: BigInt(LDT), limit: 0x1ff, type: 2, s: false },
      gdt: {
        base: random.chance(95) ? BigInt(GDT) : linear(random),
        limit: random.chance(90) ? 0x1ff : random.below(0x1_0000),
      },
      idt: {
        base: random.chance(95) ? BigInt(IDT) : linear(random),
        limit: random.chance(90) ? 0x7ff : random.below(0x1_0000),
      },
      cr0:
        0x10n |
        paging |
        withChance(
          random,
          [paging === 0n ? 70 : 99, 1n],
          [50, 0x20n],
          [30, 0x1_0000n],
          [10, 0x4_0000n],
          [10, 8n],
          [5, 4n],
          [20, 2n],
        ),
      cr3: random.chance(90) ? BigInt(PAGE_TABLES) : address(random),
      cr4: withChance(
        random,
        [isLong ? 98 : 40, 0x20n],
        [50, 0x10n],
        [30, 0x80n],
        [60, 0x600n],
        [10, 8n],
        [10, 4n],
      ),
      efer: isLong
        ? 0x500n | withChance(random, [50, 1n], [50, 0x800n])
        : withChance(random, [10, 0x100n], [30, 1n], [30, 0x800n]),
    },
    events: {
      nmiPending: random.chance(5),
      nmiMasked: random.chance(10),
      interruptShadow: random.chance(5),
      movSsShadow: random.chance(50),
      pendingDebug: random.chance(5) ? random.pick([1, 0xf, 0x4000]) : 0,
    },
    debugregs: {
      db: [linear(random), BigInt(CODE + random.below(64)), BigInt(STACK - 8), linear(random)],
      dr6: 0xffff_0ff0n,
      dr7: random.chance(15) ? BigInt(random.u32()) : 0x400n,
    },
    mpState: "runnable",
  };
}
