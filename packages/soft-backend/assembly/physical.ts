// Guest-physical memory: slots of RAM and ROM inside this wasm memory.
import { MAX_SLOTS, PAGE_BLOCKS, PAGE_DIRTY, RAM, SLOT_SIZE, SLOTS } from "../src/cpu/layout";

/** One past the last physical address bit that page tables may use. */
export const PHYSICAL_BITS: u64 = 40;

let lastFirst: u32 = 1;
let lastPages: u32 = 0;
let lastBase: usize = 0;
let lastReadOnly: bool = false;

/** Set by `toLinear`: the page is ROM. */
export let isReadOnlyPage: bool = false;

/** Wasm address of guest-physical `gpa`, 0 where it is not memory. */
export function toLinear(gpa: u64): usize {
  const page64 = gpa >> 12;
  if (page64 >> 32) return 0;
  const page = <u32>page64;
  if (page - lastFirst >= lastPages) {
    const count = min(load<u32>(SLOTS), <u32>MAX_SLOTS);
    let s: usize = SLOTS + SLOT_SIZE;
    let i: u32 = 0;
    for (; i < count; i++, s += SLOT_SIZE) if (page - load<u32>(s) < load<u32>(s, 4)) break;
    if (i == count) return 0;
    lastFirst = load<u32>(s);
    lastPages = load<u32>(s, 4);
    lastBase = load<u32>(s, 8);
    lastReadOnly = (load<u32>(s, 12) & 1) != 0;
  }
  isReadOnlyPage = lastReadOnly;
  return lastBase + (<usize>(page - lastFirst) << 12) + (<usize>gpa & 0xfff);
}

export function forgetSlots(): void { lastPages = 0; }

/** Where the list of blocks decoded from the page that holds `linear` begins. */
// @ts-ignore: decorator
@inline export function pageBlocks(linear: usize): usize { return PAGE_BLOCKS + (((linear - <usize>RAM) >> 12) << 2); }
// @ts-ignore: decorator
@inline export function markDirty(linear: usize): void { store<u8>(PAGE_DIRTY + ((linear - <usize>RAM) >> 12), 1); }
