// String instructions. A repeated one does a bounded stretch per visit and then lets the run loop look around, so
// that interrupts get in between iterations; registers always show how far it came.
import { CR0_PE, DF, ES, IOPL, MODE_64, RAX, RCX, RDI, RDX, RSI, TR, cpl, cr0, immOf, mode, segBase, segPtr, srcOf } from "./state";
import { invalidateRange } from "./blocks";
import { GP, isFaulted, raise } from "./faults";
import { watchPort } from "./debug";
import { DEBUG_HITS, STEP_ARMED } from "./fields";
import { CC_SUB, isZero, setFlagsOf } from "./flags";
import { portIn, portOut } from "./host";
import { asBefore, asSupervisor, commit, isBulkAllowed, loadAt, readable, readableMemory, setCurrent, syncCount, writable } from "./mmu";
import { S_CMPS, S_INS, S_LODS, S_MOVS, S_OUTS, S_SCAS, S_STOS } from "./ops";
import { pageBlocks } from "./physical";
import { AGAIN, FAULT, NEXT } from "./results";
import { isAllowed, raised, segmentAddress, unsegmented } from "./segment-checks";
import { RFLAGS, SCRATCH, SEG_LIMIT, ZERO } from "../src/cpu/layout";

/** Most elements done in one visit. */
const STRETCH: u64 = 4096;

let addressMask: u64 = 0;

// @ts-ignore: decorator
@inline function advance(p: usize, by: u64): void {
  const v = load<u64>(p);
  // 64 and 32-bit addressing write the whole register, 16-bit its low word.
  if (addressMask == 0xffff) store<u16>(p, <u16>(v + by));
  else store<u64>(p, (v + by) & addressMask);
}

/** Linear address of `size` bytes at an offset; `raised` outside 64-bit mode where the segment forbids them. */
function linear(segment: usize, offset: u64, size: u32, isWrite: bool): u64 {
  if (mode() == MODE_64) return unsegmented(load<u64>(segment) + (offset & addressMask));
  return segmentAddress(segment, offset & addressMask, size, isWrite);
}

// @ts-ignore: decorator
@inline function bulkAddress(segment: usize, offset: u64): u64 {
  const va = load<u64>(segment) + (offset & addressMask);
  return mode() == MODE_64 ? va : va & 0xffffffff;
}

/** Whether `size` bytes from an offset on may be taken at once. */
function isBulk(segment: usize, offset: u64, size: u64, isWrite: bool): bool {
  if (!isBulkAllowed()) return false;
  return mode() == MODE_64 || isAllowed(segment, <u32>offset, <u32>size, isWrite);
}

/** Whether port I/O is allowed: IOPL, else the TSS's permission bitmap (SDM 1 §19.5.2). Raises #GP. */
export function isPortAllowed(port: u32, size: u32): bool {
  if (!(cr0() & CR0_PE) || cpl() <= (load<u32>(RFLAGS) & IOPL) >> 12) return true;
  const tag = asSupervisor();
  const tss = segBase(TR);
  const limit = load<u32>(segPtr(TR), SEG_LIMIT);
  let allowed = false;
  if (limit >= 0x67) {
    const at = <u32>loadAt<u16>(tss + 0x66) + (port >> 3);
    if (!isFaulted() && at + 1 <= limit) {
      const bits = <u32>loadAt<u16>(tss + at) >> (port & 7);
      allowed = (bits & ((1 << size) - 1)) == 0;
    }
  }
  asBefore(tag);
  if (isFaulted()) return false;
  if (!allowed) raise(GP, 0);
  return allowed;
}

/** Runs one visit of string operation `id` on elements of type T. Returns FAULT, NEXT or AGAIN. */
export function stringOp<T>(d: usize, id: u32): u32 {
  const flags = <u32>immOf(d);
  const rep = flags & 3;
  const size3 = (flags >> 2) & 3;
  addressMask = size3 == 3 ? ~(<u64>0) : size3 == 2 ? 0xffffffff : 0xffff;
  setCurrent(d);
  const source = srcOf(d);
  const target: usize = mode() == MODE_64 ? ZERO : segPtr(ES);
  const isDown = (load<u32>(RFLAGS) & DF) != 0;
  if (!rep) return element<T>(d, id, source, target, isDown) ? NEXT : FAULT;
  let left = load<u64>(RCX) & addressMask;
  if (left == 0) {
    if (addressMask == 0xffffffff) store<u64>(RCX, 0); // the 32-bit count register is written even so
    return NEXT;
  }
  let budget: u64 = load<u32>(STEP_ARMED) ? 1 : STRETCH; // a single step is one iteration (SDM 3B §17.3.1.4)
  while (budget > 0) {
    let done: u64 = 0;
    if (!isDown && id == S_MOVS) done = bulkMove<T>(d, source, target, min(left, budget));
    else if (!isDown && id == S_STOS) done = bulkStore<T>(d, target, min(left, budget));
    if (isFaulted()) return FAULT;
    if (done == 0) {
      if (!element<T>(d, id, source, target, isDown)) return FAULT;
      done = 1;
    }
    advance(RCX, 0 - done);
    left -= done;
    if (left == 0) return NEXT;
    if ((id == S_CMPS || id == S_SCAS) && isZero() != (rep == 1)) return NEXT;
    if (load<u32>(DEBUG_HITS)) return AGAIN; // #DB comes between iterations
    budget -= min(done, budget);
  }
  return AGAIN;
}

function element<T>(d: usize, id: u32, source: usize, target: usize, isDown: bool): bool {
  const n: u32 = sizeof<T>();
  const step: u64 = isDown ? 0 - <u64>n : <u64>n;
  // The addresses an operation does not use are not checked.
  const reads = id == S_MOVS || id == S_LODS || id == S_CMPS || id == S_OUTS;
  const from = reads ? linear(source, load<u64>(RSI), n, false) : 0;
  if (reads && raised) return false;
  const isTarget = id != S_LODS && id != S_OUTS;
  const to = isTarget ? linear(target, load<u64>(RDI), n, id == S_MOVS || id == S_STOS || id == S_INS) : 0;
  if (isTarget && raised) return false;
  switch (id) {
    case S_MOVS: {
      const p = readable(d, from, n);
      if (!p) return false;
      const v = load<T>(p);
      const q = writable(d, to, n);
      if (!q) return false;
      store<T>(q, v);
      commit(q);
      advance(RSI, step);
      advance(RDI, step);
      return true;
    }
    case S_STOS: {
      const q = writable(d, to, n);
      if (!q) return false;
      store<T>(q, load<T>(RAX));
      commit(q);
      advance(RDI, step);
      return true;
    }
    case S_LODS: {
      const p = readable(d, from, n);
      if (!p) return false;
      if (sizeof<T>() == 4) store<u64>(RAX, <u64>load<u32>(p));
      else store<T>(RAX, load<T>(p));
      advance(RSI, step);
      return true;
    }
    case S_SCAS: {
      const p = readable(d, to, n);
      if (!p) return false;
      const b = load<T>(p);
      setFlagsOf<T>(CC_SUB, <T>(load<T>(RAX) - b), b);
      advance(RDI, step);
      return true;
    }
    case S_CMPS: {
      const p = readable(d, from, n);
      if (!p) return false;
      const a = load<T>(p);
      const q = readable(d, to, n);
      if (!q) return false;
      const b = load<T>(q);
      setFlagsOf<T>(CC_SUB, <T>(a - b), b);
      advance(RSI, step);
      advance(RDI, step);
      return true;
    }
    case S_INS: {
      const port = <u32>load<u16>(RDX);
      if (!isPortAllowed(port, n)) return false;
      const q = writable(d, to, n);
      if (!q) return false;
      syncCount();
      store<T>(q, <T>portIn(port, n));
      commit(q);
      watchPort(port, n);
      advance(RDI, step);
      return true;
    }
    default: {
      const port = <u32>load<u16>(RDX);
      if (!isPortAllowed(port, n)) return false;
      const p = readable(d, from, n);
      if (!p) return false;
      syncCount();
      portOut(port, n, <u32>load<T>(p));
      watchPort(port, n);
      advance(RSI, step);
      return true;
    }
  }
}

/** Elements that fit before the page of `va` ends. */
// @ts-ignore: decorator
@inline function roomFor<T>(va: u64): u64 { return (0x1000 - (va & 0xfff)) / sizeof<T>(); }

/** Moves as many elements as lie inside one source and one target page. 0: none could be moved in bulk. */
function bulkMove<T>(d: usize, source: usize, target: usize, most: u64): u64 {
  const from = bulkAddress(source, load<u64>(RSI));
  const to = bulkAddress(target, load<u64>(RDI));
  const n = min(most, min(roomFor<T>(from), roomFor<T>(to)));
  if (n < 2 || addressMask == 0xffff) return 0;
  if (!isBulk(source, load<u64>(RSI), n * sizeof<T>(), false) || !isBulk(target, load<u64>(RDI), n * sizeof<T>(), true)) return 0;
  const p = readableMemory(d, from);
  if (p == 0) return 0;
  const q = writable(d, to, 1);
  if (!q || q == SCRATCH) return 0;
  const bytes = <usize>n * sizeof<T>();
  if (load<u32>(pageBlocks(q))) invalidateRange(q, bytes);
  if (q > p && q - p < bytes) {
    // The target runs ahead inside the source: elements repeat, as one at a time they would.
    for (let i: usize = 0; i < bytes; i += sizeof<T>()) store<T>(q + i, load<T>(p + i));
  } else memory.copy(q, p, bytes);
  advance(RSI, bytes);
  advance(RDI, bytes);
  return n;
}

function bulkStore<T>(d: usize, target: usize, most: u64): u64 {
  const to = bulkAddress(target, load<u64>(RDI));
  const n = min(most, roomFor<T>(to));
  if (n < 2 || addressMask == 0xffff || !isBulk(target, load<u64>(RDI), n * sizeof<T>(), true)) return 0;
  const q = writable(d, to, 1);
  if (!q || q == SCRATCH) return 0;
  const bytes = <usize>n * sizeof<T>();
  if (load<u32>(pageBlocks(q))) invalidateRange(q, bytes);
  const v = load<T>(RAX);
  if (sizeof<T>() == 1) memory.fill(q, <u8>v, bytes);
  else if (v == 0) memory.fill(q, 0, bytes);
  else for (let i: usize = 0; i < bytes; i += sizeof<T>()) store<T>(q + i, v);
  advance(RDI, bytes);
  return n;
}
