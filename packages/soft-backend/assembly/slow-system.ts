// System instructions, port I/O and the odd ones of user mode.
import * as L from "../src/cpu/layout";
import {
  isVisible, loadSystemSegment, readControl, readDebug, readMsr, sysenter, sysexit, systemCall, systemReturn, writeControl, writeCr0, writeDebug, writeMsr,
} from "./control";
import { watchPort } from "./debug";
import { GP, UD, UNIMPLEMENTED, isFaulted, raise } from "./faults";
import {
  AF, CF, CS_BASE, CR0_PE, CR0_TS, CR4_OSXSAVE, CR4_TSD, CR4_UMIP, IF, IOPL, LDTR, MODE_64, MODE_REAL, RAX, RBX, RCX, RDX, TR, ZF, cpl,
  cr0, cr4, dstOf, ea, endOf, immOf, mode, segPtr, srcOf,
} from "./state";
import { STEP_ARMED } from "./fields";
import { isCarry, setResultFlags, setStatusFlags, statusFlags } from "./flags";
import { hostCpuid, portIn, portOut, readTsc } from "./host";
import { inhibit } from "./interrupts";
import { commit, flushPage, modifiable, readable, readableMemory, syncCount, writable } from "./mmu";
import * as o from "./ops";
import { descHi, descLimit, selectorOf, syncFpuAccess } from "./segments";
import { raised, segmentAddress } from "./segment-checks";
import { FAULT, JUMP, LEAVE, NEXT } from "./results";
import { rmRead, rmWrite } from "./slow";
import { isPortAllowed } from "./string-ops";

function gp(): u32 {
  raise(GP, 0);
  return FAULT;
}
function ud(): u32 {
  raise(UD, 0);
  return FAULT;
}
function jumped(ok: bool): u32 { return ok ? JUMP : FAULT; }
function done(ok: bool): u32 { return ok ? NEXT : FAULT; }

function nextRip(d: usize): u64 {
  const rip = endOf(d) - load<u64>(CS_BASE);
  return mode() == MODE_64 ? rip : rip & 0xffffffff;
}

export function slowSystem(d: usize, id: u32, size: u32): u32 {
  switch (id) {
    case o.S_IN: case o.S_OUT: return port(d, id, size);
    case o.S_FLAG: return flag(<u32>immOf(d));
    case o.S_LAHF: store<u8>(RAX + 1, <u8>((statusFlags() & 0xd5) | 2)); return NEXT;
    case o.S_SAHF: setStatusFlags((statusFlags() & ~0xd5) | (load<u8>(RAX + 1) & 0xd5)); return NEXT;
    case o.S_XLAT: {
      const size3 = <u32>immOf(d);
      const mask: u64 = size3 == 3 ? ~(<u64>0) : size3 == 2 ? 0xffffffff : 0xffff;
      const va = segmentAddress(srcOf(d), (load<u64>(RBX) + load<u8>(RAX)) & mask, 1, false);
      const p = raised ? 0 : readable(d, va, 1);
      if (!p) return FAULT;
      store<u8>(RAX, load<u8>(p));
      return NEXT;
    }
    case o.S_HLT:
      if (cpl()) return gp();
      if (load<u32>(STEP_ARMED)) return NEXT; // the #DB behind it wakes at once
      store<u32>(L.HALTED, 1);
      store<u32>(L.EXIT_CODE, L.EXIT_HALT);
      return LEAVE;
    case o.S_PAUSE: store<u32>(L.EXIT_CODE, L.EXIT_PAUSE); return LEAVE;
    case o.S_CPUID:
      store<u32>(L.MAILBOX, load<u32>(RAX));
      store<u32>(L.MAILBOX + 4, load<u32>(RCX));
      hostCpuid();
      store<u64>(RAX, <u64>load<u32>(L.MAILBOX + 8));
      store<u64>(RBX, <u64>load<u32>(L.MAILBOX + 12));
      store<u64>(RCX, <u64>load<u32>(L.MAILBOX + 16));
      store<u64>(RDX, <u64>load<u32>(L.MAILBOX + 20));
      return NEXT;
    case o.S_RDTSC:
      if (cpl() && cr4() & CR4_TSD) return gp();
      syncCount();
      readTsc();
      store<u64>(RAX, <u64>load<u32>(L.MAILBOX));
      store<u64>(RDX, <u64>load<u32>(L.MAILBOX + 4));
      if (immOf(d)) store<u64>(RCX, load<u64>(L.MSR_TSC_AUX));
      return NEXT;
    case o.S_RDPMC: return gp(); // no counters: every index is invalid
    case o.S_RDMSR: return done(readMsr());
    case o.S_WRMSR: return done(writeMsr());
    case o.S_SYSCALL: return jumped(systemCall(nextRip(d)));
    case o.S_SYSRET: return jumped(systemReturn(size));
    case o.S_SYSENTER: return jumped(sysenter());
    case o.S_SYSEXIT: return jumped(sysexit(size));
    case o.S_MOV_FROM_CR: {
      const v = readControl(<u32>immOf(d));
      if (isFaulted()) return FAULT;
      store<u64>(dstOf(d), mode() == MODE_64 ? v : v & 0xffffffff);
      return NEXT;
    }
    case o.S_MOV_TO_CR: return done(writeControl(<u32>immOf(d), load<u64>(dstOf(d))));
    case o.S_MOV_FROM_DR: {
      const v = readDebug(<u32>immOf(d));
      if (isFaulted()) return FAULT;
      store<u64>(dstOf(d), v);
      return NEXT;
    }
    case o.S_MOV_TO_DR:
      if (!writeDebug(<u32>immOf(d), load<u64>(dstOf(d)))) return FAULT;
      store<u64>(L.RIP, nextRip(d)); // to code that may now have breakpoints
      return JUMP;
    case o.S_CLTS:
      if (cpl()) return gp();
      store<u64>(L.CR0, cr0() & ~CR0_TS);
      syncFpuAccess();
      return NEXT;
    case o.S_INVD: return cpl() ? gp() : NEXT;
    case o.S_SGDT: return storeTable(d, L.GDTR);
    case o.S_SIDT: return storeTable(d, L.IDTR);
    case o.S_LGDT: return loadTable(d, L.GDTR, size);
    case o.S_LIDT: return loadTable(d, L.IDTR, size);
    case o.S_SMSW:
      if (cpl() && cr4() & CR4_UMIP) return gp();
      return putSelector(d, size, cr0());
    case o.S_LMSW: {
      if (cpl()) return gp();
      const p = rmRead(d, 2);
      if (!p) return FAULT;
      const v = <u64>load<u16>(p) & 15;
      return done(writeCr0((cr0() & ~<u64>14) | (v & 14) | (v & 1)| (cr0() & 1)));
    }
    case o.S_INVLPG:
      if (cpl()) return gp();
      flushPage(ea(d));
      return NEXT;
    case o.S_SWAPGS: {
      if (cpl()) return gp();
      const base = load<u64>(segPtr(5));
      store<u64>(segPtr(5), load<u64>(L.MSR_KERNEL_GS_BASE));
      store<u64>(L.MSR_KERNEL_GS_BASE, base);
      return NEXT;
    }
    case o.S_SLDT: case o.S_STR:
      if (mode() == MODE_REAL) return ud();
      if (cpl() && cr4() & CR4_UMIP) return gp();
      return putSelector(d, size, <u64>selectorOf(id == o.S_SLDT ? LDTR : TR));
    case o.S_LLDT: case o.S_LTR: {
      if (!(cr0() & CR0_PE)) return ud();
      if (cpl()) return gp();
      const p = rmRead(d, 2);
      return p && loadSystemSegment(id == o.S_LLDT ? LDTR : TR, load<u16>(p)) ? NEXT : FAULT;
    }
    case o.S_VERR: case o.S_VERW: case o.S_LAR: case o.S_LSL: return inspect(d, id, size);
    case o.S_CLFLUSH: // there is no cache to flush, but the line must be readable (SDM 2A, CLFLUSH)
      readableMemory(d, ea(d));
      return isFaulted() ? FAULT : NEXT;
    case o.S_CMPXCHG8B: return compareExchangePair(d, size);
    case o.S_UD: return ud();
    case o.S_RAISE: raise(<i32>immOf(d), 0); return FAULT;
    case o.S_BCD: return bcd(<u32>immOf(d));
    case o.S_BOUND: return bound(d, size);
    case o.S_ARPL: {
      if (mode() == MODE_REAL) return ud();
      const p = srcOf(d) ? srcOf(d) : modifiable(d, ea(d), 2);
      if (!p) return FAULT;
      const low = <u32>load<u16>(p), rpl = <u32>load<u16>(dstOf(d)) & 3;
      const isLower = (low & 3) < rpl;
      store<u16>(p, <u16>(isLower ? (low & ~3) | rpl : low));
      commit(p);
      setStatusFlags((statusFlags() & ~ZF) | (isLower ? ZF : 0));
      return NEXT;
    }
    case o.S_XGETBV:
      if (!(cr4() & CR4_OSXSAVE)) return ud();
      if (load<u32>(RCX)) return gp();
      store<u64>(RAX, <u64>load<u32>(L.XCR0));
      store<u64>(RDX, 0);
      return NEXT;
    case o.S_XSETBV: {
      if (!(cr4() & CR4_OSXSAVE)) return ud();
      const v = <u64>load<u32>(RAX) | (<u64>load<u32>(RDX) << 32);
      if (cpl() || load<u32>(RCX) || (v != 1 && v != 3)) return gp();
      store<u64>(L.XCR0, v);
      return NEXT;
    }
    case o.S_SALC: store<u8>(RAX, isCarry() ? 0xff : 0); return NEXT;
    default:
      raise(UNIMPLEMENTED, L.LACKS_INSTRUCTION);
      return FAULT;
  }
}

function port(d: usize, id: u32, size: u32): u32 {
  const n: u32 = 1 << size;
  const number = immOf(d) < 0 ? <u32>load<u16>(RDX) : <u32>immOf(d);
  if (!isPortAllowed(number, n)) return FAULT;
  syncCount();
  if (id == o.S_OUT) {
    portOut(number, n, size == 0 ? <u32>load<u8>(RAX) : size == 1 ? <u32>load<u16>(RAX) : load<u32>(RAX));
    watchPort(number, n);
    return NEXT;
  }
  const v = portIn(number, n);
  watchPort(number, n);
  if (size == 0) store<u8>(RAX, <u8>v);
  else if (size == 1) store<u16>(RAX, <u16>v);
  else store<u64>(RAX, <u64>v);
  return NEXT;
}

function flag(opcode: u32): u32 {
  const f = load<u64>(L.RFLAGS);
  switch (opcode) {
    case 0xf5: setStatusFlags(statusFlags() ^ CF); return NEXT;
    case 0xf8: setStatusFlags(statusFlags() & ~CF); return NEXT;
    case 0xf9: setStatusFlags(statusFlags() | CF); return NEXT;
    case 0xfc: store<u64>(L.RFLAGS, f & ~<u64>0x400); return NEXT;
    case 0xfd: store<u64>(L.RFLAGS, f | 0x400); return NEXT;
    default: break;
  }
  if (mode() != MODE_REAL && cpl() > <u32>((f & IOPL) >> 12)) return gp();
  if (opcode == 0xfa) { store<u64>(L.RFLAGS, f & ~<u64>IF); return NEXT; }
  if (!(f & IF)) {
    store<u64>(L.RFLAGS, f | IF);
    inhibit(false);
  }
  return NEXT;
}

function storeTable(d: usize, table: usize): u32 {
  if (cpl() && cr4() & CR4_UMIP) return gp();
  const isLong = mode() == MODE_64;
  const p = writable(d, ea(d), isLong ? 10 : 6);
  if (!p) return FAULT;
  store<u16>(p, load<u16>(table, 8));
  if (isLong) store<u64>(p + 2, load<u64>(table));
  else store<u32>(p + 2, load<u32>(table));
  commit(p);
  return NEXT;
}

function loadTable(d: usize, table: usize, size: u32): u32 {
  if (cpl()) return gp();
  const isLong = mode() == MODE_64;
  const p = readable(d, ea(d), isLong ? 10 : 6);
  if (!p) return FAULT;
  const base: u64 = isLong ? load<u64>(p + 2) : size == 1 ? <u64>(load<u32>(p + 2) & 0xffffff) : <u64>load<u32>(p + 2);
  if (<u64>(<i64>(base << 16) >> 16) != base) return gp();
  store<u32>(table, <u32>load<u16>(p), 8);
  store<u64>(table, base);
  return NEXT;
}

/** SLDT, STR, SMSW: 16 bits to memory, the operand size to a register. */
function putSelector(d: usize, size: u32, value: u64): u32 {
  const p = rmWrite(d, 2);
  if (!p) return FAULT;
  if (srcOf(d) && size != 1) store<u64>(p, size == 2 ? value & 0xffffffff : value);
  else { store<u16>(p, <u16>value); commit(p); }
  return NEXT;
}

function inspect(d: usize, id: u32, size: u32): u32 {
  if (mode() == MODE_REAL) return ud();
  const p = rmRead(d, 2);
  if (!p) return FAULT;
  let ok = isVisible(<u32>load<u16>(p), id == o.S_LSL);
  if (isFaulted()) return FAULT;
  const type = (descHi >> 8) & 0x1f;
  if (id == o.S_VERR) ok = ok && (type & 0x10) != 0 && (!(type & 8) || (type & 2) != 0);
  else if (id == o.S_VERW) ok = ok && (type & 0x1a) == 0x12;
  setStatusFlags((statusFlags() & ~ZF) | (ok ? ZF : 0));
  if (!ok || id == o.S_VERR || id == o.S_VERW) return NEXT;
  const value: u32 = id == o.S_LAR ? descHi & 0xffff00 : descLimit();
  if (size == 1) store<u16>(dstOf(d), <u16>value);
  else store<u64>(dstOf(d), <u64>value);
  return NEXT;
}

/** CMPXCHG8B, and CMPXCHG16B with size 3. */
function compareExchangePair(d: usize, size: u32): u32 {
  const va = ea(d);
  let isEqual: bool;
  if (size == 3) {
    if (va & 15) return gp();
    const p = modifiable(d, va, 16);
    if (!p) return FAULT;
    const low = load<u64>(p), high = load<u64>(p + 8);
    isEqual = low == load<u64>(RAX) && high == load<u64>(RDX);
    if (isEqual) { store<u64>(p, load<u64>(RBX)); store<u64>(p + 8, load<u64>(RCX)); }
    else { store<u64>(RAX, low); store<u64>(RDX, high); }
    commit(p);
  } else {
    const p = modifiable(d, va, 8);
    if (!p) return FAULT;
    const low = load<u32>(p), high = load<u32>(p + 4);
    isEqual = low == load<u32>(RAX) && high == load<u32>(RDX);
    if (isEqual) { store<u32>(p, load<u32>(RBX)); store<u32>(p + 4, load<u32>(RCX)); }
    else { store<u64>(RAX, <u64>low); store<u64>(RDX, <u64>high); }
    commit(p);
  }
  setStatusFlags((statusFlags() & ~ZF) | (isEqual ? ZF : 0));
  return NEXT;
}

/** DAA, DAS, AAA, AAS, AAM, AAD (SDM 2A). */
function bcd(imm: u32): u32 {
  const opcode = imm & 0xff;
  const f = statusFlags();
  const al = <u32>load<u8>(RAX), ah = <u32>load<u8>(RAX + 1);
  const adjust = (al & 15) > 9 || (f & AF) != 0;
  switch (opcode) {
    case 0x27: case 0x2f: {
      const sign: i32 = opcode == 0x27 ? 1 : -1;
      let v = <i32>al;
      const isHigh = al > 0x99 || (f & CF) != 0;
      let carry = isHigh;
      if (adjust) { v += 6 * sign; if (opcode == 0x2f && al < 6) carry = true; }
      if (isHigh) v += 0x60 * sign;
      store<u8>(RAX, <u8>v);
      setResultFlags<u8>(<u8>v, (carry ? CF : 0) | (adjust ? AF : 0));
      return NEXT;
    }
    case 0x37: case 0x3f: {
      const ax = <u32>load<u16>(RAX);
      const r = adjust ? (opcode == 0x37 ? ax + 0x106 : ax - 0x106) : ax;
      store<u16>(RAX, <u16>((r & 0xff00) | (r & 0x0f)));
      setResultFlags<u8>(<u8>(r & 15), adjust ? CF | AF : 0);
      return NEXT;
    }
    case 0xd4: {
      const base = (imm >> 8) & 0xff;
      if (base == 0) { raise(0, 0); return FAULT; }
      store<u16>(RAX, <u16>(((al / base) << 8) | (al % base)));
      setResultFlags<u8>(<u8>(al % base), 0);
      return NEXT;
    }
    default: {
      const r = (al + ah * ((imm >> 8) & 0xff)) & 0xff;
      store<u16>(RAX, <u16>r);
      setResultFlags<u8>(<u8>r, 0);
      return NEXT;
    }
  }
}

function bound(d: usize, size: u32): u32 {
  const p = readable(d, ea(d), 2 << size);
  if (!p) return FAULT;
  const isWord = size == 1;
  const v = isWord ? <i32>load<i16>(dstOf(d)) : load<i32>(dstOf(d));
  const low = isWord ? <i32>load<i16>(p) : load<i32>(p);
  const high = isWord ? <i32>load<i16>(p + 2) : load<i32>(p + 4);
  if (v < low || v > high) { raise(5, 0); return FAULT; }
  return NEXT;
}
