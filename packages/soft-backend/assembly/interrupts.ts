// Delivery of interrupts and exceptions, and IRET (SDM 3A chapter 6).
import { IDTR, SEG_ATTR, SEG_BASE, SEG_LIMIT, SEG_SELECTOR, STEP_ARMED } from "./fields";
import { hasBreakpoints, isGeneralDetect } from "./debug";
import { DB, DOUBLE_FAULT, GP, NP, PAGE_FAULT, SS_FAULT, TS_FAULT, UNIMPLEMENTED, DE, clearFault, faultError, faultVector, hasErrorCode, isFaulted, raise } from "./faults";
import { readFlags, writeFlags } from "./flags";
import { asBefore, asSupervisor, loadAt, syncPrivilege } from "./mmu";
import {
  ATTR_DB, ATTR_UNUSABLE, checkStack, descBase, descDpl, descHi, descLimit, descIsCode, descIsConforming, descPresent, enterCode, putDescriptor,
  putSegment, readDescriptor, selectorOf, setDescriptorBit, syncMode,
} from "./segments";
import { beginStack, beginStackAt, cursor, endStack, limitStack, popValue, pushValue } from "./stack";
import {
  AC, CS, CR0_PE, DF, DS, EFER_LMA, ES, FS, GS, ID, IF, IOPL, MODE_64, MODE_REAL, NT, RF, RSP, SS, STATUS_FLAGS, TF, TR, VM, cpl, cr0, efer, mode, segPtr,
} from "./state";
import { ATTENTION, INTR, LACKS_TASK_SWITCH, LACKS_VIRTUAL_8086, RFLAGS, RIP, SHADOW } from "../src/cpu/layout";

export const HARDWARE: u32 = 0;
/** INT n: the gate's DPL counts. */
export const SOFTWARE: u32 = 1;
/** SHADOW behind a load of SS. */
export const SHADOW_STACK: u32 = 2;

function isContributory(vector: i32): bool { return vector == DE || (vector >= TS_FAULT && vector <= GP); }

/** Set when a triple fault ends the run. */
export let tripleFaultVector: i32 = 0;

/** RF in the image of RFLAGS that a fault pushes (SDM 3B §17.3.1.1): not for breakpoints and traps. */
let resumeFlag: u64 = 0;

/** Takes the exception that is raised, RIP being the one to push. False: triple fault, or UNIMPLEMENTED is raised. */
export function deliverFault(): bool {
  store<u32>(STEP_ARMED, 0);
  let vector = faultVector;
  let error = faultError;
  if (vector == UNIMPLEMENTED) return false; // an interrupt's delivery met it
  while (true) {
    clearFault();
    resumeFlag = vector == DB && !isGeneralDetect ? 0 : RF;
    const isDone = interrupt(vector, HARDWARE, error);
    resumeFlag = 0;
    if (isDone) return true;
    const next = faultVector;
    if (next == UNIMPLEMENTED) return false;
    if (vector == DOUBLE_FAULT) { tripleFaultVector = next; clearFault(); return false; }
    if ((isContributory(vector) && isContributory(next)) || (vector == PAGE_FAULT && (next == PAGE_FAULT || isContributory(next)))) {
      vector = DOUBLE_FAULT;
      error = 0;
    } else {
      vector = next;
      error = faultError;
    }
  }
}

/** Enters the handler of `vector`. False: another fault is raised, nothing is changed. */
export function interrupt(vector: i32, kind: u32, error: u32): bool {
  if (!(cr0() & CR0_PE)) return realMode(vector);
  const tag = asSupervisor();
  const ok = efer() & EFER_LMA ? longMode(vector, kind, error) : protectedMode(vector, kind, error);
  if (!ok) asBefore(tag);
  return ok;
}

function fail(vector: i32, error: u32): bool {
  raise(vector, error);
  return false;
}

function realMode(vector: i32): bool {
  const entry = <u64>(vector * 4);
  if (entry + 3 > <u64>load<u32>(IDTR, 8)) return fail(GP, 0);
  const target = loadAt<u32>(load<u64>(IDTR) + entry);
  if (isFaulted()) return false;
  beginStack();
  if (!pushValue(readFlags(), 1) || !pushValue(<u64>selectorOf(CS), 1) || !pushValue(load<u64>(RIP), 1)) return false;
  endStack();
  store<u64>(RFLAGS, load<u64>(RFLAGS) & ~<u64>(IF | TF | AC | RF));
  putSegment(CS, target >> 16, <u64>((target >> 16) << 4), 0xffff, 0x9b);
  store<u64>(RIP, <u64>(target & 0xffff));
  syncMode();
  return true;
}

function longMode(vector: i32, kind: u32, error: u32): bool {
  const ext: u32 = kind == SOFTWARE ? 0 : 1;
  const gateError = <u32>vector * 8 + 2 + ext;
  const offset = <u32>vector * 16;
  if (offset + 15 > load<u32>(IDTR, 8)) return fail(GP, gateError);
  const at = load<u64>(IDTR) + offset;
  const low = loadAt<u64>(at);
  const high = loadAt<u64>(at + 8);
  if (isFaulted()) return false;
  const type = <u32>(low >> 40) & 0x1f;
  if (type != 0xe && type != 0xf) return fail(GP, gateError);
  if (kind == SOFTWARE && (<u32>(low >> 45) & 3) < cpl()) return fail(GP, gateError);
  if (!(low >> 47 & 1)) return fail(NP, gateError);
  const selector = <u32>(low >> 16) & 0xffff;
  if (!(selector & 0xfffc)) return fail(GP, ext);
  if (!readDescriptor(selector, 8)) return isFaulted() ? false : fail(GP, (selector & 0xfffc) | ext);
  if (!descIsCode() || descDpl() > cpl() || !(descHi & 0x200000) || descHi & 0x400000) return fail(GP, (selector & 0xfffc) | ext);
  if (!descPresent()) return fail(NP, (selector & 0xfffc) | ext);
  if (!setDescriptorBit(selector, 0x100)) return false;
  const level = descIsConforming() ? cpl() : descDpl();
  const target = (low & 0xffff) | ((low >> 32) & 0xffff0000) | (high << 32);
  if (<u64>(<i64>(target << 16) >> 16) != target) return fail(GP, ext);
  const ist = <u32>(low >> 32) & 7;
  let sp = load<u64>(RSP);
  if (ist || level < cpl()) {
    const slot: u64 = ist ? 0x24 + 8 * <u64>(ist - 1) : 4 + 8 * <u64>level;
    if (slot + 7 > <u64>load<u32>(segPtr(TR), SEG_LIMIT)) return fail(TS_FAULT, (selectorOf(TR) & 0xfffc) | ext);
    sp = loadAt<u64>(load<u64>(segPtr(TR), SEG_BASE) + slot);
    if (isFaulted()) return false;
    if (<u64>(<i64>(sp << 16) >> 16) != sp) return fail(SS_FAULT, ext);
  }
  const keepLo = descHi;
  beginStackAt(sp & ~15, 0, ~(<u64>0));
  if (!pushValue(<u64>selectorOf(SS), 3) || !pushValue(load<u64>(RSP), 3) || !pushValue(readFlags() | resumeFlag, 3) || !pushValue(<u64>selectorOf(CS), 3) || !pushValue(load<u64>(RIP), 3)) return false;
  if (kind == HARDWARE && hasErrorCode(vector) && !pushValue(<u64>error, 3)) return false;
  // From here nothing fails.
  const isInner = level < cpl();
  enterCode(selector, level);
  if (isInner) putSegment(SS, level, 0, 0, ATTR_UNUSABLE | (level << 5));
  store<u64>(RSP, cursor);
  let flags = load<u64>(RFLAGS) & ~<u64>(TF | VM | RF | NT);
  if (type == 0xe) flags &= ~<u64>IF;
  store<u64>(RFLAGS, flags);
  store<u64>(RIP, target);
  return true;
}

function protectedMode(vector: i32, kind: u32, error: u32): bool {
  const ext: u32 = kind == SOFTWARE ? 0 : 1;
  const gateError = <u32>vector * 8 + 2 + ext;
  const offset = <u32>vector * 8;
  if (offset + 7 > load<u32>(IDTR, 8)) return fail(GP, gateError);
  const gate = loadAt<u64>(load<u64>(IDTR) + offset);
  if (isFaulted()) return false;
  const type = <u32>(gate >> 40) & 0x1f;
  if (type != 5 && (type & 0x17) != 6 && (type & 0x17) != 7) return fail(GP, gateError);
  if (kind == SOFTWARE && (<u32>(gate >> 45) & 3) < cpl()) return fail(GP, gateError);
  if (!(gate >> 47 & 1)) return fail(NP, gateError);
  if (type == 5) return fail(UNIMPLEMENTED, LACKS_TASK_SWITCH);
  const size: u32 = type & 8 ? 2 : 1;
  const selector = <u32>(gate >> 16) & 0xffff;
  if (!(selector & 0xfffc)) return fail(GP, ext);
  if (!readDescriptor(selector, 8)) return isFaulted() ? false : fail(GP, (selector & 0xfffc) | ext);
  if (!descIsCode() || descDpl() > cpl()) return fail(GP, (selector & 0xfffc) | ext);
  if (!descPresent()) return fail(NP, (selector & 0xfffc) | ext);
  if (!setDescriptorBit(selector, 0x100)) return false;
  const level = descIsConforming() ? cpl() : descDpl();
  const target: u64 = size == 2 ? (gate & 0xffff) | ((gate >> 32) & 0xffff0000) : gate & 0xffff;
  if (target > <u64>descLimit()) return fail(GP, ext);
  let stackSelector: u32 = 0;
  if (level < cpl()) {
    const isWide = (load<u32>(segPtr(TR), SEG_ATTR) & 8) != 0; // a 32-bit TSS (SDM 3A figures 7-2, 7-10)
    const slot: u64 = isWide ? 4 + 8 * level : 2 + 4 * level;
    if (slot + (isWide ? 5 : 3) > <u64>load<u32>(segPtr(TR), SEG_LIMIT)) return fail(TS_FAULT, (selectorOf(TR) & 0xfffc) | ext);
    const tss = load<u64>(segPtr(TR), SEG_BASE) + slot;
    const sp = isWide ? loadAt<u32>(tss) : <u32>loadAt<u16>(tss);
    stackSelector = loadAt<u16>(tss + (isWide ? 4 : 2));
    if (isFaulted() || !checkStack(stackSelector, level, TS_FAULT)) return false;
    beginStackAt(<u64>sp, descBase(), descHi & 0x400000 ? 0xffffffff : 0xffff);
    limitStack((descHi >> 8) & 0xf0ff, descLimit(), (stackSelector & 0xfffc) | ext);
    if (!pushValue(<u64>selectorOf(SS), size) || !pushValue(load<u64>(RSP), size)) return false;
  } else beginStack();
  if (!pushValue(readFlags() | resumeFlag, size) || !pushValue(<u64>selectorOf(CS), size) || !pushValue(load<u64>(RIP), size)) return false;
  if (kind == HARDWARE && hasErrorCode(vector) && !pushValue(<u64>error, size)) return false;
  if (level < cpl()) {
    if (!readDescriptor(stackSelector, 8)) return false;
    putDescriptor(SS, stackSelector);
  }
  endStack();
  if (!readDescriptor(selector, 8)) return false;
  enterCode(selector, level);
  let flags = load<u64>(RFLAGS) & ~<u64>(TF | VM | RF | NT);
  if (!(type & 1)) flags &= ~<u64>IF;
  store<u64>(RFLAGS, flags);
  store<u64>(RIP, target);
  return true;
}

/** IRET, IRETD, IRETQ. Size: 1, 2, 3. False: a fault is raised. */
export function interruptReturn(size: u32): bool {
  const is64 = mode() == MODE_64;
  if (mode() != MODE_REAL && load<u64>(RFLAGS) & NT) return efer() & EFER_LMA ? fail(GP, 0) : fail(UNIMPLEMENTED, LACKS_TASK_SWITCH);
  beginStack();
  const rip = popValue(size);
  const selector = <u32>popValue(size) & 0xffff;
  const flags = popValue(size);
  if (isFaulted()) return false;
  if (mode() == MODE_REAL) {
    endStack();
    store<u64>(RIP, size == 1 ? rip & 0xffff : rip);
    putSegment(CS, selector, <u64>(selector << 4), 0xffff, 0x9b);
    restoreFlags(flags, size, 0);
    syncMode();
    return true;
  }
  if (size == 2 && cpl() == 0 && flags & VM && !(efer() & EFER_LMA)) return fail(UNIMPLEMENTED, LACKS_VIRTUAL_8086);
  const level = selector & 3;
  if (!(selector & 0xfffc)) return fail(GP, 0);
  if (!readDescriptor(selector, 8)) return isFaulted() ? false : fail(GP, selector & 0xfffc);
  if (!descIsCode() || level < cpl() || (descIsConforming() ? descDpl() > level : descDpl() != level)) return fail(GP, selector & 0xfffc);
  if (!descPresent()) return fail(NP, selector & 0xfffc);
  if (!setDescriptorBit(selector, 0x100)) return false;
  const toLong = (efer() & EFER_LMA) != 0 && (descHi & 0x200000) != 0;
  if (toLong ? <u64>(<i64>(rip << 16) >> 16) != rip : rip > <u64>descLimit()) return fail(GP, 0);
  const wasCpl = cpl();
  if (is64 || level > wasCpl) {
    const sp = popValue(size);
    const stackSelector = <u32>popValue(size) & 0xffff;
    if (isFaulted()) return false;
    if (!(stackSelector & 0xfffc)) {
      if (!toLong || level == 3 || (stackSelector & 3) != level) return fail(GP, 0);
      putSegment(SS, stackSelector, 0, 0, ATTR_UNUSABLE | (level << 5));
    } else {
      const codeLevel = level;
      if (!checkStack(stackSelector, codeLevel, GP)) return false;
      putDescriptor(SS, stackSelector);
    }
    readDescriptor(selector, 8);
    enterCode(selector, level);
    if (mode() != MODE_64 && !(descriptorIsBigStack())) store<u16>(RSP, <u16>sp);
    else store<u64>(RSP, size == 3 ? sp : size == 2 ? sp & 0xffffffff : sp & 0xffff);
  } else {
    endStack();
    enterCode(selector, level);
  }
  store<u64>(RIP, size == 1 ? rip & 0xffff : size == 2 ? rip & 0xffffffff : rip);
  restoreFlags(flags, size, wasCpl);
  if (level > wasCpl) dropPrivilegedSegments();
  return true;
}

function descriptorIsBigStack(): bool { return (load<u32>(segPtr(SS), 12) & ATTR_DB) != 0; }

/** Returning outwards makes data segments that the outer level may not use null (SDM 2A, RET). */
export function dropPrivilegedSegments(): void {
  dropIfPrivileged(ES);
  dropIfPrivileged(DS);
  dropIfPrivileged(FS);
  dropIfPrivileged(GS);
}

function dropIfPrivileged(s: u32): void {
  const a = load<u32>(segPtr(s), 12);
  if (a & ATTR_UNUSABLE) { store<u16>(segPtr(s), 0, SEG_SELECTOR); return; } // null selectors lose their RPL, bases stay
  const isConformingCode = (a & 0xc) == 0xc;
  if (!isConformingCode && ((a >> 5) & 3) < cpl()) putSegment(s, 0, 0, 0, ATTR_UNUSABLE);
}

/** The flags that IRET and POPF may change at privilege `level`. */
export function restoreFlags(value: u64, size: u32, level: u32): void {
  let may: u64 = STATUS_FLAGS | TF | DF | NT;
  if (size > 1) may |= AC | ID;
  if (size > 1 && hasBreakpoints) may |= RF; // lasts for one instruction; nobody else asks for it
  if (level == 0) may |= IOPL;
  if (level <= ((load<u32>(RFLAGS) >> 12) & 3)) may |= IF;
  const old = load<u32>(RFLAGS);
  writeFlags((readFlags() & ~may) | (value & may));
  if ((old ^ <u32>value) & AC) syncPrivilege();
  lookAround();
}

/** IF or TF may have become set: the run loop must look at the next boundary. */
export function lookAround(): void {
  const f = load<u32>(RFLAGS);
  if (f & (TF | RF) || (f & IF && load<u32>(INTR))) store<u32>(ATTENTION, load<u32>(ATTENTION) | 1);
}

/** Holds interrupts off until one more instruction has run; behind a load of SS also #DB (SDM 3A §6.8.3). */
export function inhibit(isStack: bool): void {
  store<u32>(SHADOW, isStack ? SHADOW_STACK : 1);
  store<u32>(ATTENTION, load<u32>(ATTENTION) | 1);
}
