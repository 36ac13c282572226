// Linear memory accesses: the software TLB in front, page walks, page-crossing accesses and MMIO behind.
//
// An accessor returns the wasm address to load from or store to, or 0 when it raised a fault. An access that
// cannot be one plain load or store (it crosses a page, or reaches MMIO) is assembled in SCRATCH; a store there
// must be followed by `commit()`.
//
// TLB entry (32 bytes): read tag u64 @0, write tag u64 @8, addend u32 @16, fetch tag u64 @24.
// A tag is the page's address with TLB_TAG (generation and privilege) in its low 12 bits. A page that holds
// decoded code never has a write tag, so that every store to it comes by here.
import { ATTENTION, ICOUNT, JUMP_CACHE, JUMP_CACHE_ENTRIES, LEFT, NMI_PENDING, RFLAGS, SCRATCH, SEG, TLB, TLB_ENTRIES, CPL, MODE } from "../src/cpu/layout";
import { invalidateRange } from "./blocks";
import { hasWatchpoints, isWatchedPage, watchData } from "./debug";
import { AC_FAULT, GP, SS_FAULT, raise } from "./faults";
import { mmioRead, mmioWrite } from "./host";
import { OP_SPLIT } from "./ops";
import { FETCH, READ, WRITE, isLargePage, mayFetch, mayWrite, walk, walkedGpa } from "./paging";
import { isReadOnlyPage, markDirty, pageBlocks, toLinear } from "./physical";
import { AC, CR0_AM, IF, JUMP_TAG, MODE_64, RBP, RECORD, RSP, TLB_TAG, cr0, mode, remOf } from "./state";

const TLB_ENTRY_SHIFT: usize = 5;
const GENERATIONS: u32 = 510;
let jumpGeneration: u32 = 0;

/**
 * Per 4 MiB of linear address space, hashed, u16: 1 + the generation in which the TLB last took a piece of a large page
 * from there. INVLPG forgets all pieces of a page (SDM 3A §4.10.4.1), whose table entry may be gone by then.
 */
const LARGE_PAGES: usize = memory.data(8192, 16);
// @ts-ignore: decorator
@inline function largePageAt(va: u64): usize { return LARGE_PAGES + ((<usize>(va >> 22) & 4095) << 1); }

/** The record being executed, where something slow needs to know. */
export let current: usize = 0;
export function setCurrent(d: usize): void { current = d; }

/** ICOUNT at the start of the run plus its budget. */
export let countBase: u64 = 0;
export function setCountBase(value: u64): void { countBase = value; }

/** Makes ICOUNT true before the host can look. */
export function syncCount(): void { store<u64>(ICOUNT, countBase - <u64>(load<i32>(LEFT) + remOf(current))); }

// @ts-ignore: decorator
@inline function entryOf(va: u64): usize { return TLB + ((<usize>(va >> 12) & (TLB_ENTRIES - 1)) << TLB_ENTRY_SHIFT); }

/** Forgets every translation. */
export function flushTlb(): void {
  let generation = (load<u32>(TLB_TAG) >> 3) + 1;
  if (generation > GENERATIONS) {
    generation = 0;
    memory.fill(TLB, 0xff, TLB_ENTRIES << TLB_ENTRY_SHIFT);
    memory.fill(LARGE_PAGES, 0, 8192);
  }
  store<u64>(TLB_TAG, <u64>(generation << 3) | privilege());
  flushJumpCache();
}

/** TLB_TAG: user mode; and unaligned accesses raise #AC, so that no data entry may match (SDM 3A §6.15, #AC). */
const USER: u64 = 1;
const ALIGNED: u64 = 2;
function privilege(): u64 {
  if (load<u32>(CPL) != 3) return 0;
  return (cr0() & CR0_AM) && load<u32>(RFLAGS) & AC ? USER | ALIGNED : USER;
}
/** Whether accesses must be made one at a time: by the TLB's slow path alone. */
export function isBulkAllowed(): bool { return !(load<u64>(TLB_TAG) & ALIGNED) && !hasWatchpoints; }

function flushJumpCache(): void {
  if (++jumpGeneration >> 28) {
    jumpGeneration = 0;
    memory.fill(JUMP_CACHE, 0xff, JUMP_CACHE_ENTRIES << 4);
  }
  syncJumpTag();
}

function syncJumpTag(): void {
  store<u32>(JUMP_TAG, (jumpGeneration << 4) | (load<u32>(MODE) << 1) | (load<u32>(CPL) == 3 ? 1 : 0));
}

/** Follows a change of CPL, MODE or RFLAGS.AC. */
export function syncPrivilege(): void {
  syncJumpTag();
  store<u64>(TLB_TAG, (load<u64>(TLB_TAG) & ~(USER | ALIGNED)) | privilege());
}

/** INVLPG: one page, of any size, and every virtual address of a block. */
export function flushPage(va: u64): void {
  if (load<u16>(largePageAt(va)) == (load<u32>(TLB_TAG) >> 3) + 1) { flushTlb(); return; }
  memory.fill(entryOf(va), 0xff, 1 << TLB_ENTRY_SHIFT);
  flushJumpCache();
}

// @ts-ignore: decorator
@inline export function readable(d: usize, va: u64, size: u32): usize {
  const e = entryOf(va);
  if (load<u64>(e) == (((va + size - 1) & ~0xfff) | load<u64>(TLB_TAG))) return <usize>va + load<u32>(e, 16);
  return readSlow(d, va, size);
}

/** For a store of the whole operand. */
// @ts-ignore: decorator
@inline export function writable(d: usize, va: u64, size: u32): usize {
  const e = entryOf(va);
  if (load<u64>(e, 8) == (((va + size - 1) & ~0xfff) | load<u64>(TLB_TAG))) return <usize>va + load<u32>(e, 16);
  return writeSlow(d, va, size, false);
}

/** For a read followed by a store to the same place. */
// @ts-ignore: decorator
@inline export function modifiable(d: usize, va: u64, size: u32): usize {
  const e = entryOf(va);
  if (load<u64>(e, 8) == (((va + size - 1) & ~0xfff) | load<u64>(TLB_TAG))) return <usize>va + load<u32>(e, 16);
  return writeSlow(d, va, size, true);
}

/** Finishes a store: `p` is what `writable` or `modifiable` gave. */
// @ts-ignore: decorator
@inline export function commit(p: usize): void { if (p == SCRATCH) commitScratch(); }

function isCanonical(va: u64): bool { return <u64>(<i64>(va << 16) >> 16) == va; }

/** Whether pages count as written only once they are: a translation gets write permission with its first store. */
let isLogging: bool = false;

export function logWrites(on: bool): void {
  isLogging = on;
  flushTlb();
}

/** Wasm address of a translated page access, 0 where it is MMIO. */
let linearOf: usize = 0;

/** Translates and fills the TLB. False: a fault is raised. */
function translate(va: u64, access: u32): bool {
  if (mode() == MODE_64 && !isCanonical(va)) {
    if (access == FETCH) { raise(GP, 0); return false; }
    const base = current ? <usize>load<u16>(current, 16) : 0;
    // A segment base in the index's place says that the stack's segment is overridden.
    const isStack = (base == RSP || base == RBP) && load<u16>(current, 18) < <u16>SEG;
    raise(isStack ? SS_FAULT : GP, 0);
    return false;
  }
  if (!walk(va, access)) return false;
  const p = toLinear(walkedGpa);
  linearOf = p;
  if (!p) return true;
  const e = entryOf(va);
  const page = va & ~0xfff;
  const tag = page | load<u64>(TLB_TAG);
  const addend = <u32>(p - <usize>va);
  if (isLargePage) store<u16>(largePageAt(va), <u16>((load<u32>(TLB_TAG) >> 3) + 1));
  if (load<u64>(TLB_TAG) & ALIGNED || hasWatchpoints && isWatchedPage(va)) {
    store<u64>(e, ~(<u64>0));
    store<u64>(e, ~(<u64>0), 8);
    store<u64>(e, mayFetch ? tag : ~(<u64>0), 24);
    store<u32>(e, addend, 16);
    if (access == WRITE && !isReadOnlyPage) markDirty(p);
    return true;
  }
  // An entry of the other privilege for the same page loses its place: tags and addend belong together.
  if (load<u64>(e) != tag || load<u32>(e, 16) != addend) {
    store<u64>(e, tag);
    store<u64>(e, ~(<u64>0), 8);
    store<u64>(e, ~(<u64>0), 24);
    store<u32>(e, addend, 16);
  }
  if (mayFetch) store<u64>(e, tag, 24);
  if (mayWrite && (access == WRITE || !isLogging) && !isReadOnlyPage && load<u32>(pageBlocks(p)) == 0) {
    store<u64>(e, tag, 8);
    markDirty(p);
  }
  return true;
}

/** Linear address of the page after `va`'s; outside 64-bit mode addresses wrap at 4 GiB. */
export function pageAfter(va: u64): u64 {
  const next = (va & ~0xfff) + 0x1000;
  return mode() == MODE_64 ? next : next & 0xffffffff;
}

/** Wasm address of the instruction bytes at `va`, 0 when faulted, 1 where no memory answers. */
export function fetchable(va: u64): usize {
  const e = entryOf(va);
  if (load<u64>(e, 24) == ((va & ~0xfff) | load<u64>(TLB_TAG))) return <usize>va + load<u32>(e, 16);
  if (!translate(va, FETCH)) return 0;
  return linearOf ? linearOf : 1;
}

function readMmio(gpa: u64, to: usize, size: u32): void {
  syncCount();
  while (size > 0) {
    const n: u32 = size >= 4 && (gpa & 3) == 0 ? 4 : size >= 2 && (gpa & 1) == 0 ? 2 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
    const value = mmioRead(<u32>gpa, <u32>(gpa >> 32), n);
    if (n == 4) store<u32>(to, value);
    else if (n == 2) store<u16>(to, value);
    else store<u8>(to, value);
    gpa += n; to += n; size -= n;
  }
  afterAccess();
}

function writeMmio(gpa: u64, from: usize, size: u32): void {
  syncCount();
  while (size > 0) {
    const n: u32 = size >= 4 ? 4 : size >= 2 ? 2 : 1;
    const value = n == 4 ? load<u32>(from) : n == 2 ? <u32>load<u16>(from) : <u32>load<u8>(from);
    mmioWrite(<u32>gpa, <u32>(gpa >> 32), n, value);
    gpa += n; from += n; size -= n;
  }
  afterAccess();
}

/** A handler may have raised an interrupt: it is taken before the next instruction, even inside a block. */
function afterAccess(): void {
  const attention = load<u32>(ATTENTION);
  if (attention == 0 || current == 0 || remOf(current) <= 1) return;
  if ((attention & 2) || load<u32>(RFLAGS) & IF || load<u32>(NMI_PENDING)) store<u16>(current + RECORD, OP_SPLIT);
}

/** Checks of data accesses that keep pages out of the TLB. False: #AC is raised. */
function isChecked(va: u64, size: u32, isWrite: bool): bool {
  if (load<u64>(TLB_TAG) & ALIGNED) {
    const alignment: u32 = size == 10 ? 8 : size == 6 ? 4 : size & (size - 1) ? 2 : min<u32>(size, 16);
    if (<u32>va & (alignment - 1)) { raise(AC_FAULT, 0); return false; }
  }
  if (hasWatchpoints) watchData(va, size, isWrite);
  return true;
}

export function readSlow(d: usize, va: u64, size: u32): usize {
  current = d;
  const first = min<u32>(size, 0x1000 - (<u32>va & 0xfff));
  if (!translate(va, READ)) return 0;
  if (!isChecked(va, size, false)) return 0;
  if (first == size) {
    if (linearOf) return linearOf;
    readMmio(walkedGpa, SCRATCH, size);
    return SCRATCH;
  }
  const gpa1 = walkedGpa;
  const p1 = linearOf;
  if (!translate(pageAfter(va), READ)) return 0;
  if (p1) memory.copy(SCRATCH, p1, first);
  else readMmio(gpa1, SCRATCH, first);
  if (linearOf) memory.copy(SCRATCH + first, linearOf, size - first);
  else readMmio(walkedGpa, SCRATCH + first, size - first);
  return SCRATCH;
}

/** Like `readable` for one byte, but touches no device: 0 where a fault is raised or MMIO answers. */
export function readableMemory(d: usize, va: u64): usize {
  const e = entryOf(va);
  if (load<u64>(e) == ((va & ~0xfff) | load<u64>(TLB_TAG))) return <usize>va + load<u32>(e, 16);
  current = d;
  return translate(va, READ) ? linearOf : 0;
}

// What commitScratch has to write: one or two pieces, each RAM, ROM or MMIO.
let pending1: usize = 0;
let pending2: usize = 0;
let pendingGpa1: u64 = 0;
let pendingGpa2: u64 = 0;
let pendingFirst: u32 = 0;
let pendingSize: u32 = 0;
let pendingRom1: bool = false;
let pendingRom2: bool = false;

function writeSlow(d: usize, va: u64, size: u32, isRead: bool): usize {
  current = d;
  const first = min<u32>(size, 0x1000 - (<u32>va & 0xfff));
  if (!translate(va, WRITE) || !isChecked(va, size, true)) return 0;
  if (first == size && linearOf && !isReadOnlyPage) {
    const p = linearOf;
    if (load<u32>(pageBlocks(p))) { invalidateRange(p, size); markDirty(p); }
    return p;
  }
  pendingGpa1 = walkedGpa;
  pending1 = linearOf;
  pendingRom1 = isReadOnlyPage && linearOf != 0;
  pendingFirst = first;
  pendingSize = size;
  if (first < size) {
    if (!translate(pageAfter(va), WRITE)) return 0;
    pendingGpa2 = walkedGpa;
    pending2 = linearOf;
    pendingRom2 = isReadOnlyPage && linearOf != 0;
  }
  if (isRead) {
    if (pending1) memory.copy(SCRATCH, pending1, first);
    else readMmio(pendingGpa1, SCRATCH, first);
    if (first < size) {
      if (pending2) memory.copy(SCRATCH + first, pending2, size - first);
      else readMmio(pendingGpa2, SCRATCH + first, size - first);
    }
  }
  return SCRATCH;
}

function commitPiece(p: usize, gpa: u64, isRom: bool, from: usize, size: u32): void {
  if (isRom) return;
  if (!p) { writeMmio(gpa, from, size); return; }
  if (load<u32>(pageBlocks(p))) invalidateRange(p, size);
  memory.copy(p, from, size);
  markDirty(p);
}

function commitScratch(): void {
  commitPiece(pending1, pendingGpa1, pendingRom1, SCRATCH, pendingFirst);
  if (pendingFirst < pendingSize) commitPiece(pending2, pendingGpa2, pendingRom2, SCRATCH + pendingFirst, pendingSize - pendingFirst);
}

// Accesses of system code, of `current`: privileged ones pass as supervisor whatever CPL is.

export function loadAt<T>(va: u64): T {
  const p = readable(current, va, sizeof<T>());
  return p ? load<T>(p) : <T>0;
}

export function storeAt<T>(va: u64, value: T): bool {
  const p = writable(current, va, sizeof<T>());
  if (!p) return false;
  store<T>(p, value);
  commit(p);
  return true;
}

export function asSupervisor(): u64 {
  const tag = load<u64>(TLB_TAG);
  store<u64>(TLB_TAG, tag & ~(USER | ALIGNED));
  return tag;
}

export function asBefore(tag: u64): void { store<u64>(TLB_TAG, (load<u64>(TLB_TAG) & ~(USER | ALIGNED)) | (tag & (USER | ALIGNED))); }
