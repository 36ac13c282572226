// Far jumps, calls and returns (SDM 2A: JMP, CALL, RET).
import { GP, NP, UNIMPLEMENTED, isFaulted, raise } from "./faults";
import { isCanonical } from "./control";
import { dropPrivilegedSegments } from "./interrupts";
import {
  ATTR_DB, checkStack, descDpl, descHi, descLimit, descIsCode, descIsConforming, descPresent, enterCode, putDescriptor, putSegment, readDescriptor, selectorOf,
  setDescriptorBit, syncMode,
} from "./segments";
import { beginStack, endStack, moveCursor, popValue, pushValue } from "./stack";
import { CS, EFER_LMA, MODE_64, MODE_REAL, RSP, SS, cpl, efer, mode, segPtr } from "./state";
import { LACKS_CALL_GATE, LACKS_TASK_SWITCH, RIP, SEG_LIMIT } from "../src/cpu/layout";

function fail(vector: i32, error: u32): bool {
  raise(vector, error);
  return false;
}

/** Reads and checks a code descriptor for a far jump or call. */
function checkCode(selector: u32): bool {
  if (!(selector & 0xfffc)) return fail(GP, 0);
  const error = selector & 0xfffc;
  if (!readDescriptor(selector, 8)) return isFaulted() ? false : fail(GP, error);
  if (!(descHi & 0x1000)) return enterSystem(selector, error);
  if (!descIsCode()) return fail(GP, error);
  if (descIsConforming() ? descDpl() > cpl() : (selector & 3) > cpl() || descDpl() != cpl()) return fail(GP, error);
  if ((efer() & EFER_LMA) && descHi & 0x200000 && descHi & 0x400000) return fail(GP, error); // L and D
  return descPresent() ? setDescriptorBit(selector, 0x100) : fail(NP, error);
}

/**
 * A far call or jump to a call gate, a task gate or a TSS (SDM 3A §5.8, §7.3): if the descriptor allows it, the run ends,
 * for what is behind it is not implemented.
 */
function enterSystem(selector: u32, error: u32): bool {
  const type = (descHi >> 8) & 0xf;
  const isLegacy = !(efer() & EFER_LMA);
  const isTss = isLegacy && (type == 1 || type == 9) && !(selector & 4);
  const isTask = isTss || isLegacy && type == 5;
  if (!isTask && type != 0xc && !(isLegacy && type == 4)) return fail(GP, error);
  if (descDpl() < cpl() || descDpl() < (selector & 3)) return fail(GP, error);
  if (!descPresent()) return fail(NP, error);
  return fail(UNIMPLEMENTED, isTask ? LACKS_TASK_SWITCH : LACKS_CALL_GATE);
}

/** Whether `offset` lies in the code segment whose descriptor was read last. */
function isInCode(offset: u64, size: u32): bool {
  const isLong = (efer() & EFER_LMA) != 0 && (descHi & 0x200000) != 0;
  if (isLong) return size != 3 || <u64>(<i64>(offset << 16) >> 16) == offset || fail(GP, 0);
  return (size == 1 ? offset & 0xffff : offset & 0xffffffff) <= <u64>descLimit() || fail(GP, 0);
}

function setRip(offset: u64, size: u32): void {
  store<u64>(RIP, size == 1 ? offset & 0xffff : mode() == MODE_64 && size == 3 ? offset : offset & 0xffffffff);
}

/** False: a fault is raised. `size` 1, 2, 3. */
export function farJump(selector: u32, offset: u64, size: u32): bool {
  if (mode() == MODE_REAL) {
    if (size > 1 && offset > <u64>load<u32>(segPtr(CS), SEG_LIMIT)) return fail(GP, 0);
    putSegment(CS, selector, <u64>(selector << 4), 0xffff, 0x9b);
    setRip(offset, size);
    syncMode();
    return true;
  }
  if (!checkCode(selector) || !isInCode(offset, size)) return false;
  enterCode(selector, cpl());
  setRip(offset, size);
  return true;
}

export function farCall(selector: u32, offset: u64, returnRip: u64, size: u32): bool {
  if (mode() != MODE_REAL && (!checkCode(selector) || !isInCode(offset, size))) return false;
  beginStack();
  if (!pushValue(<u64>selectorOf(CS), size) || !pushValue(returnRip, size)) return false;
  endStack();
  return farJump(selector, offset, size);
}

export function farReturn(extra: u32, size: u32): bool {
  beginStack();
  const rip = popValue(size);
  const selector = <u32>popValue(size) & 0xffff;
  if (isFaulted()) return false;
  if (mode() == MODE_REAL) {
    moveCursor(extra);
    endStack();
    return farJump(selector, rip, size);
  }
  const level = selector & 3;
  const error = selector & 0xfffc;
  if (!error) return fail(GP, 0);
  if (!readDescriptor(selector, 8)) return isFaulted() ? false : fail(GP, error);
  if (!descIsCode() || level < cpl() || (descIsConforming() ? descDpl() > level : descDpl() != level)) return fail(GP, error);
  if (!descPresent()) return fail(NP, error);
  if (!setDescriptorBit(selector, 0x100)) return false;
  const toLong = (efer() & EFER_LMA) != 0 && (descHi & 0x200000) != 0;
  if (toLong ? !isCanonical(rip) : rip > <u64>descLimit()) return fail(GP, 0);
  moveCursor(extra);
  if (level == cpl()) {
    endStack();
    enterCode(selector, level);
    setRip(rip, size);
    return true;
  }
  const sp = popValue(size);
  const stackSelector = <u32>popValue(size) & 0xffff;
  if (isFaulted()) return false;
  if (!(stackSelector & 0xfffc)) {
    if (!toLong || level == 3) return fail(GP, 0);
    putSegment(SS, stackSelector, 0, 0, 0x10000 | (level << 5));
  } else {
    if (!checkStack(stackSelector, level, GP)) return false;
    putDescriptor(SS, stackSelector);
  }
  readDescriptor(selector, 8);
  enterCode(selector, level);
  if (mode() != MODE_64 && !(load<u32>(segPtr(SS), 12) & ATTR_DB)) store<u16>(RSP, <u16>(sp + extra));
  else store<u64>(RSP, (size == 3 ? sp : sp & 0xffffffff) + extra);
  setRip(rip, size);
  dropPrivilegedSegments();
  return true;
}
