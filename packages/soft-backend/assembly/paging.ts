// Page walks (SDM 3A chapter 4): 32-bit, PAE and 4-level paging.
import { CR2, CR3 } from "../src/cpu/layout";
import { PAGE_FAULT, raise } from "./faults";
import { invalidateRange } from "./blocks";
import { PHYSICAL_BITS, isReadOnlyPage, markDirty, pageBlocks, toLinear } from "./physical";
import { CR0_PG, CR0_WP, CR4_PAE, CR4_PSE, EFER_LMA, EFER_NX, TLB_TAG, cr0, cr4, efer } from "./state";

export const READ: u32 = 0;
export const WRITE: u32 = 1;
export const FETCH: u32 = 2;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const NX: u64 = 1 << 63;
const ADDRESS: u64 = 0x000ffffffffff000;

/** Results of the last successful walk. */
export let walkedGpa: u64 = 0;
/** The access rights found: whether the page may be written or fetched in the current mode, and is already dirty. */
export let mayWrite: bool = false;
export let mayFetch: bool = false;
/** The page found is larger than 4 KiB. */
export let isLargePage: bool = false;

// @ts-ignore: decorator
@inline function isUser(): bool { return (load<u32>(TLB_TAG) & 1) != 0; }

function pageFault(va: u64, access: u32, present: bool, reserved: bool): bool {
  store<u64>(CR2, va);
  const fetchBit: u32 = access == FETCH && (efer() & EFER_NX) != 0 ? 0x10 : 0;
  raise(PAGE_FAULT, (present ? 1 : 0) | (access == WRITE ? 2 : 0) | (isUser() ? 4 : 0) | (reserved ? 8 : 0) | fetchBit);
  return false;
}

function isReserved(entry: u64): bool {
  if ((entry & ADDRESS) >> PHYSICAL_BITS) return true;
  return (entry & NX) != 0 && (efer() & EFER_NX) == 0;
}

/** Sets Accessed (and Dirty) where they are not yet set. Page tables in ROM keep theirs. */
function touch<T>(at: usize, entry: u64, bits: u64, isRom: bool): void {
  if ((entry & bits) == bits || isRom) return;
  if (load<u32>(pageBlocks(at))) invalidateRange(at, sizeof<T>());
  store<T>(at, <T>(entry | bits));
  markDirty(at);
}

/** The end of every walk: permission, then Accessed and Dirty of the leaf. */
function finish<T>(va: u64, access: u32, at: usize, entry: u64, rights: u64, nx: bool, gpa: u64): bool {
  const user = isUser();
  const writable = (rights & RW) != 0 || (!user && (cr0() & CR0_WP) == 0);
  const allowed = (!user || (rights & US) != 0) && (access != WRITE || writable) && (access != FETCH || !nx);
  if (!allowed) return pageFault(va, access, true, false);
  touch<T>(at, entry, access == WRITE ? A | D : A, isReadOnlyPage);
  walkedGpa = gpa;
  mayWrite = writable && (access == WRITE || (entry & D) != 0);
  mayFetch = !nx;
  return true;
}

/** Whether the four PDPTEs at `cr3` may be loaded: no reserved bit in a present one (SDM 3A §4.4.1). */
export function arePdptesValid(cr3: u64): bool {
  for (let i: u64 = 0; i < 4; i++) {
    const at = toLinear((cr3 & 0xffffffe0) + (i << 3));
    const entry: u64 = at ? load<u64>(at) : ~(<u64>0);
    if (entry & P && (entry & 0x1e6 || entry >> PHYSICAL_BITS)) return false;
  }
  return true;
}

/** Translates a linear address. False: a page fault is raised, CR2 set. */
export function walk(va: u64, access: u32): bool {
  isLargePage = false;
  if (!(cr0() & CR0_PG)) {
    walkedGpa = va & 0xffffffff;
    mayWrite = true;
    mayFetch = true;
    return true;
  }
  if (!(cr4() & CR4_PAE)) return walk32(va, access);
  return walkLong(va, access);
}

function walkLong(va: u64, access: u32): bool {
  const isLong = (efer() & EFER_LMA) != 0;
  let table = load<u64>(CR3) & (isLong ? ADDRESS : 0xffffffe0);
  let rights: u64 = RW | US;
  let nx = false;
  let level = isLong ? 4 : 3;
  while (true) {
    const shift: u64 = 12 + 9 * <u64>(level - 1);
    const at = toLinear(table + (((va >> shift) & (!isLong && level == 3 ? 3 : 511)) << 3));
    const entry: u64 = at ? load<u64>(at) : ~(<u64>0);
    if (!(entry & P)) return pageFault(va, access, false, false);
    const isLarge = (entry & PS) != 0 && level > 1;
    const isPdpte = !isLong && level == 3;
    if (!at || isReserved(entry) || (isLarge && (level == 4 || isPdpte))) return pageFault(va, access, true, true);
    if (!isPdpte) {
      rights &= entry;
      nx = nx || (entry & NX) != 0;
    }
    if (level == 1 || isLarge) {
      const mask: u64 = (<u64>1 << shift) - 1;
      if (isLarge && (entry & ADDRESS & mask & ~<u64>0x1000)) return pageFault(va, access, true, true);
      isLargePage = isLarge;
      return finish<u64>(va, access, at, entry, rights, nx, (entry & ADDRESS & ~mask) | (va & mask));
    }
    if (!isPdpte) touch<u64>(at, entry, A, isReadOnlyPage);
    table = entry & ADDRESS;
    level--;
  }
}

function walk32(va: u64, access: u32): bool {
  const directory = toLinear((load<u64>(CR3) & 0xfffff000) + (((va >> 22) & 1023) << 2));
  const isDirectoryRom = isReadOnlyPage;
  const pde: u64 = directory ? <u64>load<u32>(directory) : 0;
  if (!(pde & P)) return pageFault(va, access, false, false);
  if (pde & PS && cr4() & CR4_PSE) {
    if (pde & 0x200000) return pageFault(va, access, true, true);
    isLargePage = true;
    const high = ((pde >> 13) & 0xff) << 32;
    return finish<u32>(va, access, directory, pde, pde, false, high | (pde & 0xffc00000) | (va & 0x3fffff));
  }
  const at = toLinear((pde & 0xfffff000) + (((va >> 12) & 1023) << 2));
  const pte: u64 = at ? <u64>load<u32>(at) : 0;
  if (!(pte & P)) return pageFault(va, access, false, false);
  touch<u32>(directory, pde, A, isDirectoryRom);
  return finish<u32>(va, access, at, pte, pde & pte, false, (pte & 0xfffff000) | (va & 0xfff));
}
