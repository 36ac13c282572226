// Segment registers and descriptor tables (SDM 3A chapters 3 and 5).
import { CPL, CR0, CS_BASE_FIELD, GDTR, MODE, SEG_ATTR, SEG_BASE, SEG_LIMIT, SEG_SELECTOR, SSE_BLOCKED, X87_BLOCKED } from "./fields";
import { GP, NM, NP, SS_FAULT, UD, isFaulted, raise } from "./faults";
import { asBefore, asSupervisor, loadAt, storeAt, syncPrivilege } from "./mmu";
import {
  CR0_EM, CR0_PE, CR0_TS, CR4_OSFXSR, CS, EFER_LMA, LDTR, MODE_16, MODE_32, MODE_64, MODE_REAL, SS, cpl, cr0, cr4, efer, mode, segPtr,
} from "./state";

export const ATTR_L: u32 = 0x2000;
export const ATTR_DB: u32 = 0x4000;
export const ATTR_UNUSABLE: u32 = 0x10000;
const CODE: u32 = 8;
const CONFORMING: u32 = 4;
const WRITABLE: u32 = 2;

/** The descriptor read last. */
export let descLo: u32 = 0;
export let descHi: u32 = 0;
/** Upper half of the base of a 16-byte system descriptor. */
export let descBaseHigh: u32 = 0;

// @ts-ignore: decorator
@inline export function attr(s: u32): u32 { return load<u32>(segPtr(s), SEG_ATTR); }
// @ts-ignore: decorator
@inline export function selectorOf(s: u32): u32 { return load<u16>(segPtr(s), SEG_SELECTOR); }
export function descDpl(): u32 { return (descHi >> 13) & 3; }
export function descPresent(): bool { return (descHi & 0x8000) != 0; }
export function descIsCode(): bool { return (descHi & 0x1800) == 0x1800; }
export function descIsConforming(): bool { return (descHi & 0x0400) != 0; }

function tableAddress(selector: u32): u64 {
  if (selector & 4) return load<u64>(segPtr(LDTR), SEG_BASE) + (selector & ~7);
  return load<u64>(GDTR) + (selector & ~7);
}

/** Reads the descriptor a selector names; false (nothing raised) where it lies outside its table. Page faults stay raised. */
export function readDescriptor(selector: u32, size: u32): bool {
  const limit: u32 = selector & 4 ? (attr(LDTR) & ATTR_UNUSABLE ? 0 : load<u32>(segPtr(LDTR), SEG_LIMIT)) : load<u32>(GDTR, 8);
  if ((selector & ~7) + size - 1 > limit) return false;
  const tag = asSupervisor();
  const at = tableAddress(selector);
  const low = loadAt<u64>(at);
  descBaseHigh = size == 16 && !isFaulted() ? loadAt<u32>(at + 8) : 0;
  asBefore(tag);
  descLo = <u32>low;
  descHi = <u32>(low >> 32);
  return !isFaulted();
}

/** Sets a bit of the descriptor's type in memory (Accessed, or a TSS's Busy). False: the store faults. */
export function setDescriptorBit(selector: u32, bit: u32): bool {
  if (descHi & bit) return true;
  descHi |= bit;
  const tag = asSupervisor();
  const done = storeAt<u32>(tableAddress(selector) + 4, descHi);
  asBefore(tag);
  return done;
}

export function descBase(): u64 { return <u64>((descLo >> 16) | ((descHi & 0xff) << 16) | (descHi & 0xff000000)); }
export function descLimit(): u32 {
  const limit = (descLo & 0xffff) | (descHi & 0xf0000);
  return descHi & 0x800000 ? (limit << 12) | 0xfff : limit;
}

export function putSegment(s: u32, selector: u32, base: u64, limit: u32, attributes: u32): void {
  const p = segPtr(s);
  store<u64>(p, base, SEG_BASE);
  store<u32>(p, limit, SEG_LIMIT);
  store<u32>(p, attributes, SEG_ATTR);
  store<u16>(p, <u16>selector, SEG_SELECTOR);
}

/** Loads a segment register from the descriptor read last. */
export function putDescriptor(s: u32, selector: u32): void {
  putSegment(s, selector, descBase() | (<u64>descBaseHigh << 32), descLimit(), (descHi >> 8) & 0xf0ff);
}

/** Derives MODE and the base used for fetching from CR0, EFER and CS. */
export function syncMode(): void {
  let m = MODE_REAL;
  const a = attr(CS);
  if (cr0() & CR0_PE) {
    if ((efer() & EFER_LMA) && (a & ATTR_L)) m = MODE_64;
    else m = a & ATTR_DB ? MODE_32 : MODE_16;
  }
  store<u32>(MODE, m);
  store<u64>(CS_BASE_FIELD, m == MODE_64 ? 0 : load<u64>(segPtr(CS), SEG_BASE));
  syncPrivilege();
}

export function setCpl(level: u32): void {
  store<u32>(CPL, level);
  syncPrivilege();
}

/** Derives what x87 and SSE instructions run into: #NM, #UD or nothing. */
export function syncFpuAccess(): void {
  const c = cr0();
  const x87 = c & (CR0_EM | CR0_TS) ? NM : 0;
  const sse = c & CR0_EM || !(cr4() & CR4_OSFXSR) ? UD : c & CR0_TS ? NM : 0;
  store<u32>(X87_BLOCKED, x87);
  store<u32>(SSE_BLOCKED, sse);
}

/** MOV/POP to ES, SS, DS, FS, GS and the far-pointer loads. False: a fault is raised. */
export function loadDataSegment(s: u32, selector: u32): bool {
  if (mode() == MODE_REAL) {
    putSegment(s, selector, <u64>(selector << 4), attr(s) & ATTR_UNUSABLE ? 0xffff : load<u32>(segPtr(s), SEG_LIMIT), 0x93);
    return true;
  }
  const rpl = selector & 3;
  if ((selector & ~3) == 0) {
    if (s == SS && (mode() != MODE_64 || cpl() == 3 || rpl != cpl())) { raise(GP, 0); return false; }
    putSegment(s, selector, 0, 0, ATTR_UNUSABLE | (s == SS ? cpl() << 5 : 0));
    return true;
  }
  const error = selector & 0xfffc;
  if (!readDescriptor(selector, 8)) { if (!isFaulted()) raise(GP, error); return false; }
  const type = (descHi >> 8) & 0xf;
  const dpl = descDpl();
  const isSystem = !(descHi & 0x1000);
  if (s == SS) {
    if (isSystem || (type & CODE) || !(type & WRITABLE) || rpl != cpl() || dpl != cpl()) { raise(GP, error); return false; }
    if (!descPresent()) { raise(SS_FAULT, error); return false; }
  } else {
    if (isSystem || ((type & CODE) && !(type & WRITABLE))) { raise(GP, error); return false; }
    if (!((type & CODE) && (type & CONFORMING)) && (rpl > dpl || cpl() > dpl)) { raise(GP, error); return false; }
    if (!descPresent()) { raise(NP, error); return false; }
  }
  if (!setDescriptorBit(selector, 0x100)) return false;
  putDescriptor(s, selector);
  return true;
}

/** A stack segment for a given privilege, out of a TSS or a far return. */
export function checkStack(selector: u32, level: u32, vector: i32): bool {
  const error = selector & 0xfffc;
  if (error == 0) { raise(vector, 0); return false; }
  if (!readDescriptor(selector, 8)) { if (!isFaulted()) raise(vector, error); return false; }
  const type = (descHi >> 8) & 0x1f;
  if ((selector & 3) != level || descDpl() != level || !(type & 0x10) || (type & CODE) || !(type & WRITABLE)) { raise(vector, error); return false; }
  if (!descPresent()) { raise(SS_FAULT, error); return false; }
  return setDescriptorBit(selector, 0x100);
}

/** Makes CS of the descriptor read last, which is marked accessed; the caller sets RIP. */
export function enterCode(selector: u32, level: u32): void {
  putDescriptor(CS, (selector & 0xfffc) | level);
  setCpl(level);
  syncMode();
}

/** Flat segments as SYSCALL, SYSRET, SYSENTER and SYSEXIT set them. */
export function putFlatCode(selector: u32, level: u32, isLong: bool): void {
  putSegment(CS, (selector & 0xfffc) | level, 0, 0xffffffff, 0x809b | (level << 5) | (isLong ? ATTR_L : ATTR_DB));
}
export function putFlatStack(selector: u32, level: u32): void {
  putSegment(SS, (selector & 0xfffc) | level, 0, 0xffffffff, 0xc093 | (level << 5));
}
