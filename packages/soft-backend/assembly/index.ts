// The module's exports. See README.md.
import * as L from "../src/cpu/layout";
import { invalidateRange, initBlocks, resetBlocks } from "./blocks";
import { finishCount, lacks, resume } from "./boundary";
import { syncDebug } from "./debug";
import { execute } from "./interpreter";
import { readFlags, writeFlags } from "./flags";
import { flushTlb, logWrites, setCountBase, setCurrent } from "./mmu";
import { forgetSlots, markDirty, pageBlocks } from "./physical";
import { putSegment, setCpl, syncFpuAccess, syncMode } from "./segments";
import { CR0_PE, CS, ES, GS, LDTR, RDX, SS, TR, VM, cr0 } from "./state";
import { x87Reset } from "./x87";

/** The vCPU whose state is in the state block. */
let running: u32 = 0;

function saveArea(cpu: u32): usize { return L.VCPU_SAVE + cpu * L.VCPU_SAVE_SIZE; }

export function stateOf(cpu: u32): usize { return cpu == running ? L.STATE : saveArea(cpu); }

/** Fields of the state block that belong to the translations in use, not to a vCPU. */
const TAG_FIELDS: usize = 0x6b8;

function switchTo(cpu: u32): void {
  if (cpu == running) return;
  const tag = load<u64>(TAG_FIELDS);
  memory.copy(saveArea(running), L.STATE, L.STATE_END - L.STATE);
  memory.copy(L.STATE, saveArea(cpu), L.STATE_END - L.STATE);
  running = cpu;
  store<u64>(TAG_FIELDS, tag);
  flushTlb();
  syncMode();
  syncDebug();
}

export function init(): void {
  initBlocks();
  memory.fill(L.TLB, 0xff, L.TLB_ENTRIES * 32);
  memory.fill(L.JUMP_CACHE, 0xff, L.JUMP_CACHE_ENTRIES * 16);
  forgetSlots();
  for (let cpu: u32 = 0; cpu < <u32>L.MAX_VCPUS; cpu++) resetVcpu(cpu);
  switchTo(0);
}

/** Power-on state (SDM 3A §9.1.1). */
export function resetVcpu(cpu: u32): void {
  switchTo(cpu);
  const tag = load<u64>(TAG_FIELDS);
  memory.fill(L.STATE, 0, L.STATE_END - L.STATE);
  store<u64>(TAG_FIELDS, tag);
  store<u64>(L.CR0, 0x60000010);
  store<u64>(L.RIP, 0xfff0);
  store<u64>(RDX, 0x600);
  for (let s: u32 = ES; s <= GS; s++) putSegment(s, 0, 0, 0xffff, 0x93);
  putSegment(CS, 0xf000, 0xffff0000, 0xffff, 0x9b);
  putSegment(LDTR, 0, 0, 0xffff, 0x82);
  putSegment(TR, 0, 0, 0xffff, 0x8b);
  store<u32>(L.GDTR, 0xffff, 8);
  store<u32>(L.IDTR, 0xffff, 8);
  store<u64>(L.DR + 32, 0xffff0ff0);
  store<u64>(L.DR + 40, 0x400);
  store<u64>(L.MSR_PAT, 0x0007040600070406);
  store<u32>(L.MXCSR, 0x1f80);
  store<u64>(L.XCR0, 1);
  x87Reset();
  store<u16>(L.FCW, 0x40);
  writeFlags(2);
  setCpl(0);
  syncMode();
  syncFpuAccess();
  flushTlb();
  syncDebug();
}

/** The host wrote registers of `cpu`: derives what depends on them. */
export function stateChanged(cpu: u32): void {
  switchTo(cpu);
  setCpl(cr0() & CR0_PE ? (load<u32>(L.SEG + SS * L.SEG_SIZE + L.SEG_ATTR) >> 5) & 3 : 0);
  flushTlb();
  syncMode();
  syncFpuAccess();
  syncDebug();
}

/** Executes up to exactly `budget` instructions of `cpu`. Returns EXIT_*. */
export function run(cpu: u32, budget: i32): u32 {
  switchTo(cpu);
  writeFlags(load<u64>(L.RFLAGS));
  setCurrent(0);
  setCountBase(load<u64>(L.ICOUNT) + <u64>budget);
  store<i32>(L.LEFT, budget);
  execute(load<u32>(L.RFLAGS) & VM ? lacks(L.LACKS_VIRTUAL_8086) : resume(0));
  store<u64>(L.RFLAGS, readFlags());
  finishCount();
  return load<u32>(L.EXIT_CODE);
}

/** Memory at wasm addresses `[p, p + length)` was written by the host. */
export function memoryWritten(p: usize, length: u32): void {
  let left = length;
  while (left > 0) {
    const n = min<u32>(left, 0x1000 - (<u32>p & 0xfff));
    if (load<u32>(pageBlocks(p))) invalidateRange(p, n);
    markDirty(p);
    p += n;
    left -= n;
  }
}

/** Slots changed: forgets what was translated. */
export function slotsChanged(): void {
  forgetSlots();
  resetBlocks();
}

/** Turning the dirty log on, or harvesting it, takes every page's write permission away once. */
export function setDirtyLog(on: bool): void { logWrites(on); }
