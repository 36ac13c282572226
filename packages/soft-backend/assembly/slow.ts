// The instructions the run loop does not hold itself. Each answers as results.ts says.
import * as L from "../src/cpu/layout";
import {
  bitScan, compareExchange, crc32c, divide, divideSigned, exchangeAdd, multiply, multiplySigned, multiplyTo, put, shift, shiftDouble,
} from "./arithmetic";
import { segmented } from "./boundary";
import { CC_SUB, conditionOf, setFlagsOf, setStatusFlags, statusFlags } from "./flags";
import * as o from "./ops";
import { commit, modifiable, readable, setCurrent, writable } from "./mmu";
import { FAULT, NEXT } from "./results";
import { slowSystem } from "./slow-system";
import { slowControl } from "./slow-flow";
import { slowFpu } from "./slow-fpu";
import { offsetOf, raised, segmentAddress, unsegmented } from "./segment-checks";
import { stringOp } from "./string-ops";
import { CF, RAX, RCX, RDX, RECORD, dstOf, ea, immOf, opOf, srcOf } from "./state";

/** Pointer to the r/m operand for reading: the register, or translated memory. 0: faulted. */
// @ts-ignore: decorator
@inline export function rmRead(d: usize, size: u32): usize {
  const p = srcOf(d);
  return p ? p : readable(d, ea(d), size);
}
// @ts-ignore: decorator
@inline export function rmModify(d: usize, size: u32): usize {
  const p = srcOf(d);
  return p ? p : modifiable(d, ea(d), size);
}
// @ts-ignore: decorator
@inline export function rmWrite(d: usize, size: u32): usize {
  const p = srcOf(d);
  return p ? p : writable(d, ea(d), size);
}
/** Stores to what rmModify or rmWrite gave. */
// @ts-ignore: decorator
@inline export function rmPut<T>(d: usize, p: usize, v: T): void {
  if (srcOf(d)) put<T>(p, v);
  else { store<T>(p, v); commit(p); }
}

export function slow(d: usize): u32 {
  setCurrent(d);
  const op = <u32>load<u16>(d) - o.SLOW;
  const id = op >> 2;
  if (id >= o.S_X87 && id <= o.S_STMXCSR || id == o.S_MASKMOV || id == o.S_XSAVE) return slowFpu(d, id);
  if (id >= o.S_PUSH && id <= o.S_LEAVE || id >= o.S_CALL && id <= o.S_LOAD_FAR || id == o.S_INTO) return slowControl(d, id, op & 3);
  if (id >= o.S_MOVS && id <= o.S_OUTS) {
    switch (op & 3) {
      case 0: return stringOp<u8>(d, id);
      case 1: return stringOp<u16>(d, id);
      case 2: return stringOp<u32>(d, id);
      default: return stringOp<u64>(d, id);
    }
  }
  if (id <= o.S_LEA || id == o.S_CBW || id == o.S_CWD || id == o.S_CRC32 || id == o.S_MOVBE) {
    switch (op & 3) {
      case 0: return integer<u8>(d, id);
      case 1: return integer<u16>(d, id);
      case 2: return integer<u32>(d, id);
      default: return integer<u64>(d, id);
    }
  }
  return slowSystem(d, id, op & 3);
}

// @ts-ignore: decorator
@inline function widen<T>(v: T): i64 {
  if (sizeof<T>() == 1) return <i64><i8>v;
  if (sizeof<T>() == 2) return <i64><i16>v;
  if (sizeof<T>() == 4) return <i64><i32>v;
  return <i64>v;
}

function integer<T>(d: usize, id: u32): u32 {
  const n: u32 = sizeof<T>();
  const countMask: u32 = n == 8 ? 63 : 31;
  if (id >= o.S_SHIFT && id < o.S_XCHG) {
    const imm = immOf(d);
    const count = (imm < 0 ? load<u8>(RCX) : <u32>imm) & countMask;
    const p = rmModify(d, n);
    if (!p) return FAULT;
    rmPut<T>(d, p, shift<T>(id - o.S_SHIFT, load<T>(p), count));
    return NEXT;
  }
  if (id >= o.S_BT && id < o.S_BT + 4) return bitTest<T>(d, id - o.S_BT);
  switch (id) {
    case o.S_MUL: { const p = rmRead(d, n); if (!p) return FAULT; multiply<T>(p); return NEXT; }
    case o.S_IMUL1: { const p = rmRead(d, n); if (!p) return FAULT; multiplySigned<T>(p); return NEXT; }
    case o.S_DIV: { const p = rmRead(d, n); return p && divide<T>(p) ? NEXT : FAULT; }
    case o.S_IDIV: { const p = rmRead(d, n); return p && divideSigned<T>(p) ? NEXT : FAULT; }
    case o.S_NOT: { const p = rmModify(d, n); if (!p) return FAULT; rmPut<T>(d, p, <T>~load<T>(p)); return NEXT; }
    case o.S_NEG: {
      const p = rmModify(d, n);
      if (!p) return FAULT;
      const v = load<T>(p);
      const r = <T>(0 - v);
      rmPut<T>(d, p, r);
      setFlagsOf<T>(CC_SUB, r, v);
      return NEXT;
    }
    case o.S_XCHG: {
      const p = rmModify(d, n);
      if (!p) return FAULT;
      const v = load<T>(p);
      const w = load<T>(dstOf(d));
      rmPut<T>(d, p, w);
      put<T>(dstOf(d), v);
      return NEXT;
    }
    case o.S_XADD: { const p = rmModify(d, n); if (!p) return FAULT; exchangeAdd<T>(p, dstOf(d), srcOf(d) != 0); commit(p); return NEXT; }
    case o.S_CMPXCHG: { const p = rmModify(d, n); if (!p) return FAULT; compareExchange<T>(p, load<T>(dstOf(d)), srcOf(d) != 0); commit(p); return NEXT; }
    case o.S_BSF: case o.S_BSR: { const p = rmRead(d, n); if (!p) return FAULT; bitScan<T>(dstOf(d), load<T>(p), id == o.S_BSR); return NEXT; }
    case o.S_POPCNT: {
      const p = rmRead(d, n);
      if (!p) return FAULT;
      const v = <u64>load<T>(p);
      put<T>(dstOf(d), <T>popcnt<u64>(v));
      setStatusFlags(v == 0 ? 0x40 : 0);
      return NEXT;
    }
    case o.S_SHLD: case o.S_SHRD: {
      const imm = immOf(d);
      const count = (imm < 0 ? load<u8>(RCX) : <u32>imm) & countMask;
      const p = rmModify(d, n);
      if (!p) return FAULT;
      rmPut<T>(d, p, shiftDouble<T>(load<T>(p), load<T>(dstOf(d)), count, id == o.S_SHLD));
      return NEXT;
    }
    case o.S_IMUL2: { const p = rmRead(d, n); if (!p) return FAULT; multiplyTo<T>(dstOf(d), widen<T>(load<T>(dstOf(d))), widen<T>(load<T>(p))); return NEXT; }
    case o.S_IMUL3: { const p = rmRead(d, n); if (!p) return FAULT; multiplyTo<T>(dstOf(d), widen<T>(load<T>(p)), immOf(d)); return NEXT; }
    case o.S_CMOV: {
      const p = rmRead(d, n);
      if (!p) return FAULT;
      if (conditionOf(<u32>immOf(d))) put<T>(dstOf(d), load<T>(p));
      return NEXT;
    }
    case o.S_MOVZX: { const p = rmRead(d, n); if (!p) return FAULT; store<u16>(dstOf(d), <u16>load<T>(p)); return NEXT; }
    case o.S_MOVSX: { const p = rmRead(d, n); if (!p) return FAULT; store<u16>(dstOf(d), <u16>widen<T>(load<T>(p))); return NEXT; }
    case o.S_SETCC: {
      const p = rmWrite(d, 1);
      if (!p) return FAULT;
      store<u8>(p, conditionOf(<u32>immOf(d)) ? 1 : 0);
      commit(p);
      return NEXT;
    }
    case o.S_BSWAP: {
      const p = dstOf(d);
      if (n == 8) store<u64>(p, bswap<u64>(load<u64>(p)));
      else if (n == 4) store<u64>(p, <u64>bswap<u32>(load<u32>(p)));
      else store<u16>(p, 0); // undefined in the SDM; processors clear it
      return NEXT;
    }
    case o.S_LEA: put<T>(dstOf(d), <T>ea(d)); return NEXT;
    case o.S_CBW:
      if (n == 8) store<i64>(RAX, <i64>load<i32>(RAX));
      else if (n == 4) store<u64>(RAX, <u64><u32><i32>load<i16>(RAX));
      else store<u16>(RAX, <u16><i16>load<i8>(RAX));
      return NEXT;
    case o.S_CWD:
      if (n == 8) store<i64>(RDX, load<i64>(RAX) >> 63);
      else if (n == 4) store<u64>(RDX, <u64><u32>(load<i32>(RAX) >> 31));
      else store<u16>(RDX, <u16>(load<i16>(RAX) >> 15));
      return NEXT;
    case o.S_CRC32: {
      const p = rmRead(d, n);
      if (!p) return FAULT;
      store<u64>(dstOf(d), <u64>crc32c(load<u32>(dstOf(d)), <u64>load<T>(p), n));
      return NEXT;
    }
    default: { // MOVBE
      if (immOf(d)) {
        const p = writable(d, ea(d), n);
        if (!p) return FAULT;
        store<T>(p, swap<T>(load<T>(dstOf(d))));
        commit(p);
      } else {
        const p = readable(d, ea(d), n);
        if (!p) return FAULT;
        put<T>(dstOf(d), swap<T>(load<T>(p)));
      }
      return NEXT;
    }
  }
}

// @ts-ignore: decorator
@inline function swap<T>(v: T): T {
  if (sizeof<T>() == 1) return v;
  return <T>(bswap<u64>(<u64>v) >> (64 - 8 * sizeof<T>()));
}

/** Address of the operand `delta` bytes on: offsets of 16 and 32 bits wrap before the segment is added. */
function displaced(d: usize, delta: u64, size: u32, isWrite: bool): u64 {
  if (load<u16>(d, 16) == <u16>L.EA) {
    const e = d - RECORD;
    const op = opOf(e);
    if (op == o.OP_EA32) return unsegmented(segmented((ea(e) + delta) & 0xffffffff, load<u64>(srcOf(e))));
    if (op >= o.OP_EA32_SEG && op <= o.OP_EA_IMM_SEG) {
      const mask: u64 = op == o.OP_EA16_SEG ? 0xffff : 0xffffffff;
      return segmentAddress(srcOf(e), (<u64>offsetOf(e) + delta) & mask, size, isWrite);
    }
  }
  return unsegmented(ea(d) + delta);
}

/** BT, BTS, BTR, BTC. A register offset reaches beyond the operand in memory. */
function bitTest<T>(d: usize, op: u32): u32 {
  const bits: u32 = 8 * sizeof<T>();
  const n: u32 = sizeof<T>();
  const offset = dstOf(d) ? widen<T>(load<T>(dstOf(d))) : immOf(d) & (bits - 1);
  const bit = <u32>offset & (bits - 1);
  let p = srcOf(d);
  if (!p) {
    const va = displaced(d, <u64>((offset >> (n == 8 ? 6 : n == 4 ? 5 : 4)) * <i64>n), n, op != 0);
    p = raised ? 0 : op ? modifiable(d, va, n) : readable(d, va, n);
    if (!p) return FAULT;
  }
  const v = load<T>(p);
  const mask = <T>(<u64>1 << bit);
  setStatusFlags((statusFlags() & ~CF) | ((<u64>v >> bit) & 1 ? CF : 0));
  if (op == 0) return NEXT;
  rmPut<T>(d, p, op == 1 ? <T>(v | mask) : op == 2 ? <T>(v & ~mask) : <T>(v ^ mask));
  return NEXT;
}
