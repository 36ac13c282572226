// The cache of decoded blocks.
//
// A block is straight-line code inside one page, decoded once into records. It is found by the wasm address of
// its first byte and the CPU mode. Before its first record stands a header of 40 bytes. Blocks leave the cache
// when their bytes are written: their records become OP_DEAD, so that a block that overwrites itself stops after
// the storing instruction. An instruction that crosses pages is a block of its own and is known to both pages.
import { ARENA, ARENA_END, BLOCK_HASH, BLOCK_HASH_ENTRIES, JUMP_CACHE, JUMP_CACHE_ENTRIES, PAGE_BLOCKS, PAGE_DIRTY, PAGE_STORES, RAM, RIP_BASE } from "../src/cpu/layout";
import { decodeBlock } from "./decode";
import { loudTwin } from "./decode-passes";
import { breakpointsAt, hasBreakpoints, stopsAt } from "./debug";
import { GP, isFaulted, raise } from "./faults";
import { SEG_LIMIT } from "./fields";
import { fetchable, flushTlb, pageAfter } from "./mmu";
import { ALU_CMP, ALU_TEST, OP_DEAD, OP_FUSED_CMP64, OP_FUSED_END, OP_QUIET, OP_QUIET_END } from "./ops";
import { pageBlocks } from "./physical";
import { isWithin } from "./segment-checks";
import { CS, JUMP_TAG, MODE_64, RECORD, mode, segPtr } from "./state";

export const HEADER: usize = 40;
// @ts-ignore: decorator
@inline export function keyOf(block: usize): usize { return load<u32>(block - 40); }
/** CPU mode the block was decoded for. */
const MODE_AT: usize = 36;
/** Instructions in the block. */
// @ts-ignore: decorator
@inline export function lengthOf(block: usize): i32 { return load<i32>(block - 32); }
export function setLength(block: usize, n: i32): void { store<i32>(block - 32, n); }
const HASH_NEXT_AT: usize = 28;
const PAGE_NEXT_AT: usize = 24;
/** Wasm address of the second page's bytes, 0 if the block is inside one page. */
const SECOND_AT: usize = 20;
const SECOND_NEXT_AT: usize = 16;
const RECORDS_AT: usize = 12;
const BYTES_AT: usize = 8;

/** A link into a page list with this bit names the block by its second page. */
const SECOND: usize = 1;

const MAX_RECORDS: usize = 160;

let arenaTop: usize = ARENA;

/** A copy of the front of a block, made to stop after an exact number of instructions. */
const CUT: usize = ARENA_END - 0x4000;

/** Counts the times every block was dropped at once. */
export let blockEpoch: u32 = 0;

export function initBlocks(): void {
  store<u16>(CUT + HEADER, <u16>OP_DEAD);
  resetBlocks();
}

export function resetBlocks(): void {
  blockEpoch++;
  memory.fill(BLOCK_HASH, 0, BLOCK_HASH_ENTRIES << 2);
  memory.fill(PAGE_BLOCKS, 0, PAGE_DIRTY - PAGE_BLOCKS);
  memory.fill(PAGE_STORES, 0, RAM - PAGE_STORES);
  arenaTop = ARENA;
  flushTlb();
}

// @ts-ignore: decorator
@inline function bucketOf(key: usize): usize {
  return BLOCK_HASH + ((((key * 0x9e3779b1) >> 12) & (BLOCK_HASH_ENTRIES - 1)) << 2);
}

/** CPU mode as blocks know it. */
// @ts-ignore: decorator
@inline function modeKey(): u32 { return mode() | (hasBreakpoints ? UNCHAINED : 0); }
/** While there are breakpoints no block leads to another one by itself: blocks of that time are kept apart. */
const UNCHAINED: u32 = 4;

/** The block at `key` whose second page, if it has one, is `second`; with no `second`, any. */
function find(key: usize, second: usize): usize {
  let block: usize = load<u32>(bucketOf(key));
  while (block) {
    if (keyOf(block) == key && load<u32>(block - MODE_AT) == modeKey()) {
      const has: usize = load<u32>(block - SECOND_AT);
      if (has == 0 || second == 0 || has == second) return block;
    }
    block = load<u32>(block - HASH_NEXT_AT);
  }
  return 0;
}

/** Wasm address of the bytes of the page after `va`'s, 0 when it does not translate. Faults stay raised. */
export function fetchNextPage(va: u64): usize { return fetchable(pageAfter(va)); }

/**
 * The block at linear address `va`, decoded if need be, entered into the jump cache. 0: a fault is raised
 * (a page fault of the fetch); the caller delivers it.
 */
export function lookup(va: u64): usize {
  if (mode() != MODE_64) va &= 0xffffffff;
  const isLimited = mode() != MODE_64 && load<u32>(segPtr(CS), SEG_LIMIT) != 0xffffffff;
  if (hasBreakpoints && stopsAt(va)) return 0;
  if (isLimited && !isInCode(va, 1)) { raise(GP, 0); return 0; }
  const p = fetchable(va);
  if (!p) return 0;
  let block: usize = p == 1 ? 0 : find(p, 0);
  // A block that crosses pages holds only as long as the second page is the same.
  if (block && load<u32>(block - SECOND_AT)) {
    const second = fetchNextPage(va);
    if (!second) return 0;
    if (load<u32>(block - SECOND_AT) != second) block = find(p, second);
    if (block && load<u32>(block - SECOND_AT) != second) block = 0;
  }
  if (!block) {
    block = build(p, va);
    if (!block) return 0;
  }
  store<u64>(RIP_BASE, va & ~0xfff);
  if (hasBreakpoints || isLimited && (p == 1 || !isInCode(va, load<u32>(block - BYTES_AT)))) return restrict(block, va, isLimited);
  if (p == 1) return block;
  const e = jumpEntry(va);
  store<u64>(e, va);
  store<u32>(e, load<u32>(JUMP_TAG), 8);
  store<u32>(e, <u32>block, 12);
  return block;
}

/** Whether code at `va` lies in the code segment. */
function isInCode(va: u64, size: u32): bool {
  const cs = segPtr(CS);
  return isWithin(0, load<u32>(cs, SEG_LIMIT), <u32>(va - load<u64>(cs)), size);
}

/** The part of a block up to the next breakpoint and to the end of the code segment. 0: #GP is raised. */
function restrict(block: usize, va: u64, isLimited: bool): usize {
  const length = lengthOf(block);
  const page = va & ~0xfff;
  let d = block;
  while (true) {
    const rem = <i32>load<u8>(d, 6);
    if (rem == 0) return block;
    const start = page + load<u16>(d, 2);
    const isBeyond = isLimited && !isInCode(start, load<u16>(d, 4) - load<u16>(d, 2));
    if (isBeyond || (rem < length && hasBreakpoints && breakpointsAt(start) != 0)) {
      if (rem < length) return cut(block, length - rem);
      raise(GP, 0);
      return 0;
    }
    if (rem == 1) return block;
    d += RECORD;
  }
}

// @ts-ignore: decorator
@inline export function jumpEntry(va: u64): usize {
  const h = <usize>va ^ (<usize>va >> 12);
  return JUMP_CACHE + ((h & (JUMP_CACHE_ENTRIES - 1)) << 4);
}

function build(p: usize, va: u64): usize {
  if (arenaTop + (MAX_RECORDS + 2) * RECORD + HEADER > CUT) resetBlocks();
  const block = arenaTop + HEADER;
  if (p != 1 && load<u32>(pageBlocks(p)) == 0) flushTlb(); // takes away the page's write tags
  const end = decodeBlock(block, p, va);
  if (isFaulted()) return 0;
  // The bytes of a void (no memory there) are not cached: nothing would tell us of a change.
  if (p == 1) { store<u32>(block - 40, 0); return block; }
  const second = <usize>decodedSecond;
  store<u32>(block - 40, <u32>p);
  store<u32>(block - MODE_AT, modeKey());
  store<u32>(block - SECOND_AT, <u32>second);
  store<u32>(block - RECORDS_AT, <u32>((end - block) / RECORD));
  store<u32>(block - BYTES_AT, decodedBytes);
  const bucket = bucketOf(p);
  store<u32>(block - HASH_NEXT_AT, load<u32>(bucket));
  store<u32>(bucket, <u32>block);
  const list = pageBlocks(p);
  store<u32>(block - PAGE_NEXT_AT, load<u32>(list));
  store<u32>(list, <u32>block);
  if (second) {
    const list2 = pageBlocks(second);
    if (load<u32>(list2) == 0) flushTlb();
    store<u32>(block - SECOND_NEXT_AT, load<u32>(list2));
    store<u32>(list2, <u32>(block | SECOND));
  }
  arenaTop = (end + 7) & ~7;
  return block;
}

/** Whether a record of the same page may hold on to the block. */
export function isChainable(block: usize): bool { return !hasBreakpoints && block >= <usize>ARENA && block < CUT && load<u32>(block - SECOND_AT) == 0 && load<u32>(block - 40) > 1; }

/** What decodeBlock found besides records. */
let decodedSecond: usize = 0;
let decodedBytes: u32 = 0;
export function setDecoded(bytes: u32, second: usize): void { decodedBytes = bytes; decodedSecond = second; }

function kill(block: usize): void {
  const n = load<u32>(block - RECORDS_AT);
  for (let i: u32 = 0; i < n; i++) store<u16>(block + i * RECORD, <u16>OP_DEAD);
  let link = bucketOf(keyOf(block));
  while (load<u32>(link) != <u32>block) {
    if (load<u32>(link) == 0) return;
    link = <usize>load<u32>(link) - HASH_NEXT_AT;
  }
  store<u32>(link, load<u32>(block - HASH_NEXT_AT));
}

/** Unlinks a block from the page list that does not lead to it here. */
function unlink(list: usize, entry: usize): void {
  let link = list;
  while (load<u32>(link)) {
    const e: usize = load<u32>(link);
    if (e == entry) { store<u32>(link, load<u32>(nextLink(e))); return; }
    link = nextLink(e);
  }
}

// @ts-ignore: decorator
@inline function nextLink(entry: usize): usize {
  return entry & SECOND ? (entry & ~SECOND) - SECOND_NEXT_AT : entry - PAGE_NEXT_AT;
}

/**
 * A page that is stored to this often is taken to hold data now: all its blocks go, so that stores become fast
 * again. Pages that once held code and now are a stack would otherwise pay for every push.
 */
const STORES_TO_DATA: u32 = 16;

/** Drops the blocks decoded from `[linear, linear + size)`, which lies inside one page. */
export function invalidateRange(linear: usize, size: u32): void {
  const counter = PAGE_STORES + ((linear - <usize>RAM) >> 12);
  const stores = <u32>load<u8>(counter) + 1;
  const isData = stores >= STORES_TO_DATA;
  store<u8>(counter, isData ? 0 : <u8>stores);
  if (isData) drop(linear & ~0xfff, 0x1000);
  else drop(linear, size);
  killCut();
}

function drop(linear: usize, size: u32): void {
  let link = pageBlocks(linear);
  while (load<u32>(link)) {
    const entry: usize = load<u32>(link);
    const block = entry & ~SECOND;
    const second: usize = load<u32>(block - SECOND_AT);
    const bytes: usize = load<u32>(block - BYTES_AT);
    const key = keyOf(block);
    const firstPart = second ? 0x1000 - (key & 0xfff) : bytes;
    const from = entry & SECOND ? second : key;
    const length = entry & SECOND ? bytes - firstPart : firstPart;
    if (from - linear < size || linear - from < length) { // differences: sums may pass 4 GiB
      store<u32>(link, load<u32>(nextLink(entry)));
      if (second) {
        if (entry & SECOND) unlink(pageBlocks(key), block);
        else unlink(pageBlocks(second), block | SECOND);
      }
      kill(block);
    } else link = nextLink(entry);
  }
}

function killCut(): void {
  for (let d = CUT + HEADER; load<u16>(d) != <u16>OP_DEAD; d += RECORD) store<u16>(d, <u16>OP_DEAD);
}

/** A copy of `block`'s front that stops after `n` instructions, fewer than the block has. */
export function cut(block: usize, n: i32): usize {
  const copy = CUT + HEADER;
  const total = lengthOf(block);
  let to = copy;
  let from = block;
  let left = n;
  while (true) {
    left = n - (total - <i32>load<u8>(from, 6));
    const isPast = left <= 0;
    memory.copy(to, from, RECORD);
    if (isPast || load<u16>(from) == <u16>OP_DEAD) break;
    store<u8>(to, <u8>left, 6);
    separate(to);
    to += RECORD;
    from += RECORD;
  }
  store<u16>(to, <u16>OP_DEAD);
  store<u8>(to, <u8>max(left, 0), 6); // a block that left the cache gives back what it no longer does
  setLength(copy, n);
  return copy;
}

/** In a copy that may stop anywhere, fused pairs come apart and flags are set by everyone. */
function separate(d: usize): void {
  const op = <u32>load<u16>(d);
  if (op >= OP_FUSED_CMP64 && op < OP_FUSED_END) {
    const kind = (op - OP_FUSED_CMP64) >> 4;
    const alu = kind < 2 ? ALU_CMP : ALU_TEST;
    store<u16>(d, <u16>(alu * 4 + (kind & 1 ? 2 : 3)));
  } else if (op >= OP_QUIET && op < OP_QUIET_END) store<u16>(d, <u16>loudTwin(op));
}
