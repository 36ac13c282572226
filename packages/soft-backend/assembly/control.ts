// Control registers, MSRs, system calls, descriptor table registers.
import * as L from "../src/cpu/layout";
import { DR6_BD, DR7, DR7_GD, raiseDebug, syncDebug } from "./debug";
import { GP, NP, UD, isFaulted, raise } from "./faults";
import { STEP_ARMED } from "./fields";
import { readFlags, writeFlags } from "./flags";
import { cr8Written, readHostMsr, writeHostMsr } from "./host";
import { lookAround } from "./interrupts";
import { flushTlb, syncCount } from "./mmu";
import { arePdptesValid } from "./paging";
import { PHYSICAL_BITS } from "./physical";
import {
  attr, descDpl, descHi, descPresent, putDescriptor, putFlatCode, putFlatStack, putSegment, readDescriptor, setCpl, setDescriptorBit,
  syncFpuAccess, syncMode, ATTR_L, ATTR_UNUSABLE,
} from "./segments";
import {
  CR0_PE, CR0_PG, CR4_DE, CR4_OSXSAVE, CR4_PAE, CR4_UMIP, CS, EFER_LMA, EFER_LME, EFER_SCE, IF, LDTR, MODE_64, RAX, RCX, RDX, RF, RSP, TF, TR, VM, cpl, cr0, cr4, efer, mode,
  segPtr,
} from "./state";

const CR0_WRITABLE: u64 = 0xe005003f;
/** TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT. */
const CR4_ALWAYS: u64 = 0x7fc;
const EFER_WRITABLE: u64 = 0xd01;

export function isCanonical(va: u64): bool { return <u64>(<i64>(va << 16) >> 16) == va; }

function gp(): bool {
  raise(GP, 0);
  return false;
}

export function writeCr0(value: u64): bool {
  const old = cr0();
  if (value >> 32 || ((value & CR0_PG) && !(value & CR0_PE)) || ((value & 0x20000000) && !(value & 0x40000000))) return gp();
  value = (value & CR0_WRITABLE) | 0x10;
  let e = efer();
  if ((value & CR0_PG) && !(old & CR0_PG) && e & EFER_LME) {
    if (!(cr4() & CR4_PAE) || attr(CS) & ATTR_L) return gp();
    e |= EFER_LMA;
  } else if (!(value & CR0_PG) && (old & CR0_PG)) {
    if (mode() == MODE_64) return gp();
    e &= ~EFER_LMA;
  }
  if ((value & ~old & CR0_PG) && !(e & EFER_LMA) && cr4() & CR4_PAE && !arePdptesValid(load<u64>(L.CR3))) return gp();
  store<u64>(L.EFER, e);
  store<u64>(L.CR0, value);
  flushTlb();
  syncMode();
  syncFpuAccess();
  return true;
}

export function writeCr4(value: u64): bool {
  if (value & ~cr4Writable()) return gp();
  if (efer() & EFER_LMA && !(value & CR4_PAE)) return gp();
  if (value & ~cr4() & CR4_PAE && cr0() & CR0_PG && !arePdptesValid(load<u64>(L.CR3))) return gp();
  store<u64>(L.CR4, value);
  flushTlb();
  syncDebug();
  syncFpuAccess();
  return true;
}

export function writeCr3(value: u64): bool {
  if (efer() & EFER_LMA && value >> PHYSICAL_BITS) return gp();
  if (!(efer() & EFER_LMA) && cr0() & CR0_PG && cr4() & CR4_PAE && !arePdptesValid(value)) return gp();
  store<u64>(L.CR3, value);
  flushTlb();
  return true;
}

/** The bits of CR4 that the CPU model has. */
function cr4Writable(): u64 {
  const features = load<u32>(L.FEATURES);
  return CR4_ALWAYS | (features & L.FEATURE_UMIP ? CR4_UMIP : 0) | (features & L.FEATURE_XSAVE ? CR4_OSXSAVE : 0);
}

/** MOV from CR. `n` other than 0, 2, 3, 4, 8: #UD. */
export function readControl(n: u32): u64 {
  if (cpl()) { gp(); return 0; }
  switch (n) {
    case 0: return cr0();
    case 2: return load<u64>(L.CR2);
    case 3: return load<u64>(L.CR3);
    case 4: return cr4();
    case 8: return load<u64>(L.CR8);
    default: raise(UD, 0); return 0;
  }
}

export function writeControl(n: u32, value: u64): bool {
  if (cpl()) return gp();
  if (mode() != MODE_64) value &= 0xffffffff;
  switch (n) {
    case 0: return writeCr0(value);
    case 2: store<u64>(L.CR2, value); return true;
    case 3: return writeCr3(value);
    case 4: return writeCr4(value);
    case 8:
      if (value > 15) return gp();
      store<u64>(L.CR8, value);
      cr8Written(<u32>value);
      return true;
    default: raise(UD, 0); return false;
  }
}

/** DR4 and DR5 are DR6 and DR7 unless CR4.DE takes them away. */
function isDebugRegister(n: u32): bool { return n < 8 && !(n >> 1 == 2 && cr4() & CR4_DE); }
function debugSlot(n: u32): usize { return L.DR + ((n < 4 ? n : n & 1 ? 5 : 4) << 3); }
export function readDebug(n: u32): u64 {
  if (!isDebugRegister(n)) { raise(UD, 0); return 0; }
  if (cpl()) { gp(); return 0; }
  if (load<u64>(DR7) & DR7_GD) { raiseDebug(DR6_BD); return 0; }
  return load<u64>(debugSlot(n));
}
export function writeDebug(n: u32, value: u64): bool {
  if (!isDebugRegister(n)) { raise(UD, 0); return false; }
  if (cpl()) return gp();
  if (load<u64>(DR7) & DR7_GD) { raiseDebug(DR6_BD); return false; }
  if (mode() != MODE_64) value &= 0xffffffff;
  if (n >= 4) {
    if (value >> 32) return gp();
    value = n & 1 ? (value & 0xffff2fff) | 0x400 : (value & 0xefff) | 0xffff0ff0;
  }
  store<u64>(debugSlot(n), value);
  syncDebug();
  return true;
}

/** Where the core keeps an MSR, 0 for those of the host. */
function msrSlot(index: u32): usize {
  switch (index) {
    case 0x174: return L.MSR_SYSENTER_CS;
    case 0x175: return L.MSR_SYSENTER_ESP;
    case 0x176: return L.MSR_SYSENTER_EIP;
    case 0x277: return L.MSR_PAT;
    case 0xc0000080: return L.EFER;
    case 0xc0000081: return L.MSR_STAR;
    case 0xc0000082: return L.MSR_LSTAR;
    case 0xc0000083: return L.MSR_CSTAR;
    case 0xc0000084: return L.MSR_SFMASK;
    case 0xc0000100: return segPtr(4);
    case 0xc0000101: return segPtr(5);
    case 0xc0000102: return L.MSR_KERNEL_GS_BASE;
    case 0xc0000103: return L.MSR_TSC_AUX;
    default: return 0;
  }
}

export function readMsr(): bool {
  if (cpl()) return gp();
  const index = load<u32>(RCX);
  const slot = msrSlot(index);
  let value: u64;
  if (slot) value = load<u64>(slot);
  else {
    syncCount();
    if (readHostMsr(index)) return gp();
    value = load<u64>(L.MAILBOX);
  }
  store<u64>(RAX, value & 0xffffffff);
  store<u64>(RDX, value >> 32);
  return true;
}

function isPatValid(value: u64): bool {
  for (let i: u64 = 0; i < 64; i += 8) {
    const t = (value >> i) & 0xff;
    if (t > 7 || t == 2 || t == 3) return false;
  }
  return true;
}

export function writeMsr(): bool {
  if (cpl()) return gp();
  const index = load<u32>(RCX);
  const value = <u64>load<u32>(RAX) | (<u64>load<u32>(RDX) << 32);
  const slot = msrSlot(index);
  if (!slot) {
    syncCount();
    store<u64>(L.MAILBOX, value);
    return writeHostMsr(index) ? gp() : true;
  }
  switch (index) {
    case 0x175: case 0x176: case 0xc0000082: case 0xc0000083: case 0xc0000100: case 0xc0000101: case 0xc0000102:
      if (!isCanonical(value)) return gp();
      store<u64>(slot, value);
      return true;
    case 0x277:
      if (!isPatValid(value)) return gp();
      store<u64>(slot, value);
      return true;
    case 0xc0000080:
      if (value & ~EFER_WRITABLE) return gp();
      if (cr0() & CR0_PG && (value ^ efer()) & EFER_LME) return gp();
      store<u64>(slot, (value & ~EFER_LMA) | (efer() & EFER_LMA));
      flushTlb();
      return true;
    case 0xc0000084: case 0xc0000103: case 0x174:
      store<u64>(slot, value & 0xffffffff);
      return true;
    default:
      store<u64>(slot, value);
      return true;
  }
}

/** SYSCALL: `next` is the address of the instruction after it. */
export function systemCall(next: u64): bool {
  if (!(efer() & EFER_SCE)) { raise(UD, 0); return false; }
  const star = load<u64>(L.MSR_STAR);
  if (!(efer() & EFER_LMA)) { raise(UD, 0); return false; } // legacy SYSCALL is AMD's alone
  store<u64>(RCX, next);
  const flags = readFlags();
  store<u64>(RAX + 11 * 8, flags & ~<u64>RF);
  const target = mode() == MODE_64 ? load<u64>(L.MSR_LSTAR) : load<u64>(L.MSR_CSTAR);
  writeFlags(flags & ~(load<u64>(L.MSR_SFMASK) | <u64>RF));
  const selector = <u32>(star >> 32) & 0xfffc;
  putFlatCode(selector, 0, true);
  putFlatStack(selector + 8, 0);
  setCpl(0);
  syncMode();
  store<u64>(L.RIP, target);
  stepAfter();
  return true;
}

/** Whether SYSCALL and SYSRET are followed by a single-step #DB is up to TF as they leave it (APM 2 §13.1.4). */
function stepAfter(): void { store<u32>(STEP_ARMED, load<u32>(L.RFLAGS) & TF ? 1 : 0); }

/** SYSRET. Size 3: to 64-bit mode. */
export function systemReturn(size: u32): bool {
  if (!(efer() & EFER_SCE) || mode() != MODE_64) { raise(UD, 0); return false; }
  if (cpl()) return gp();
  const star = load<u64>(L.MSR_STAR);
  const rcx = load<u64>(RCX);
  if (size == 3 && !isCanonical(rcx)) return gp();
  const selector = <u32>(star >> 48) & 0xffff;
  putFlatCode(size == 3 ? selector + 16 : selector, 3, size == 3);
  putFlatStack(selector + 8, 3);
  writeFlags((load<u64>(RAX + 11 * 8) & 0x3c7fd7) | 2);
  setCpl(3);
  syncMode();
  store<u64>(L.RIP, size == 3 ? rcx : rcx & 0xffffffff);
  stepAfter();
  lookAround();
  return true;
}

export function sysenter(): bool {
  const selector = load<u32>(L.MSR_SYSENTER_CS) & 0xfffc;
  if (!(cr0() & CR0_PE) || !selector) return gp();
  const isLong = (efer() & EFER_LMA) != 0;
  writeFlags(readFlags() & ~<u64>(VM | IF));
  putFlatCode(selector, 0, isLong);
  putFlatStack(selector + 8, 0);
  setCpl(0);
  syncMode();
  store<u64>(RSP, isLong ? load<u64>(L.MSR_SYSENTER_ESP) : <u64>load<u32>(L.MSR_SYSENTER_ESP));
  store<u64>(L.RIP, isLong ? load<u64>(L.MSR_SYSENTER_EIP) : <u64>load<u32>(L.MSR_SYSENTER_EIP));
  return true;
}

export function sysexit(size: u32): bool {
  const selector = load<u32>(L.MSR_SYSENTER_CS) & 0xfffc;
  if (!(cr0() & CR0_PE) || !selector || cpl()) return gp();
  const rcx = load<u64>(RCX);
  const rdx = load<u64>(RDX);
  if (size == 3 && (!isCanonical(rcx) || !isCanonical(rdx))) return gp();
  putFlatCode(size == 3 ? selector + 32 : selector + 16, 3, size == 3);
  putFlatStack(size == 3 ? selector + 40 : selector + 24, 3);
  setCpl(3);
  syncMode();
  store<u64>(RSP, size == 3 ? rcx : rcx & 0xffffffff);
  store<u64>(L.RIP, size == 3 ? rdx : rdx & 0xffffffff);
  return true;
}

/** LLDT and LTR, at CPL 0 in protected mode. */
export function loadSystemSegment(s: u32, selector: u32): bool {
  if (!(selector & 0xfffc)) {
    if (s == TR) return gp();
    putSegment(LDTR, selector, 0, 0, ATTR_UNUSABLE);
    return true;
  }
  const error = selector & 0xfffc;
  if (selector & 4) { raise(GP, error); return false; }
  const isLong = (efer() & EFER_LMA) != 0;
  if (!readDescriptor(selector, isLong ? 16 : 8)) { if (!isFaulted()) raise(GP, error); return false; }
  const type = (descHi >> 8) & 0x1f;
  if (s == LDTR ? type != 2 : type != 9 && (isLong || type != 1)) { raise(GP, error); return false; }
  if (!descPresent()) { raise(NP, error); return false; }
  if (s == TR && !setDescriptorBit(selector, 0x200)) return false;
  putDescriptor(s, selector);
  return true;
}

/** LAR, LSL, VERR, VERW: whether the selector is visible from here; the descriptor is left read. */
export function isVisible(selector: u32, isLimit: bool): bool {
  if (!(selector & 0xfffc)) return false;
  if (!readDescriptor(selector, 8)) return false;
  const type = (descHi >> 8) & 0x1f;
  if (!(type & 0x10)) {
    const isLong = (efer() & EFER_LMA) != 0;
    const known: u32 = isLong ? (isLimit ? 0xa04 : 0x1a04) : isLimit ? 0xa0e : 0x1a3e;
    if (!((known >> type) & 1)) return false;
  } else if ((type & 0xc) == 0xc) return true;
  return cpl() <= descDpl() && (selector & 3) <= descDpl();
}
