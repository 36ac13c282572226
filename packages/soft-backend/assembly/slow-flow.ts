// Control flow and stack instructions outside the 64-bit fast paths.
import * as L from "../src/cpu/layout";
import { segmented } from "./boundary";
import { farCall, farJump, farReturn } from "./far";
import { DB, GP, OF_TRAP, isFaulted, raise } from "./faults";
import { STEP_ARMED } from "./fields";
import { conditionOf, isOverflow, isZero, readFlags } from "./flags";
import { HARDWARE, SOFTWARE, inhibit, interrupt, interruptReturn, restoreFlags } from "./interrupts";
import { commit, readable, writable } from "./mmu";
import * as o from "./ops";
import { loadDataSegment, selectorOf } from "./segments";
import { checkedAddress, isBranchTarget, raised, segmentAddress } from "./segment-checks";
import { FAULT, JUMP, NEXT } from "./results";
import { rmRead, rmWrite } from "./slow";
import { beginStack, cursor, endStack, moveCursor, popValue, pushValue, stackMask } from "./stack";
import { CS_BASE, MODE_64, RAX, RBP, RCX, RECORD, RF, RSP, SS, VM, cpl, dstOf, ea, endOf, immOf, mode, opOf, segPtr, srcOf } from "./state";

/** Architectural RIP of the next instruction. */
function nextRip(d: usize): u64 {
  const rip = endOf(d) - load<u64>(CS_BASE);
  return mode() == MODE_64 ? rip : rip & 0xffffffff;
}

/** RIP + relative displacement, truncated to the operand size. */
function relativeTarget(d: usize, size: u32): u64 {
  const rip = nextRip(d) + <u64>immOf(d);
  return mode() == MODE_64 ? rip : size == 1 ? rip & 0xffff : rip & 0xffffffff;
}

/** Near branches stay within the code segment, else #GP on the branch. */
function jump(rip: u64): u32 {
  if (!isBranchTarget(rip)) return FAULT;
  store<u64>(L.RIP, rip);
  return JUMP;
}

function load_(p: usize, size: u32): u64 {
  return size == 3 ? load<u64>(p) : size == 2 ? <u64>load<u32>(p) : <u64>load<u16>(p);
}

function store_(p: usize, v: u64, size: u32): void {
  if (size == 3) store<u64>(p, v);
  else if (size == 2) store<u32>(p, <u32>v);
  else store<u16>(p, <u16>v);
}

function putSized(p: usize, v: u64, size: u32): void {
  if (size == 1) store<u16>(p, <u16>v);
  else store<u64>(p, size == 2 ? v & 0xffffffff : v);
}

export function slowControl(d: usize, id: u32, size: u32): u32 {
  switch (id) {
    case o.S_PUSH: {
      const p = rmRead(d, 1 << size);
      if (!p) return FAULT;
      const v = load_(p, size);
      beginStack();
      if (!pushValue(v, size)) return FAULT;
      endStack();
      return NEXT;
    }
    case o.S_POP: return pop(d, size);
    case o.S_PUSHF:
      beginStack();
      if (!pushValue(readFlags() & ~<u64>(RF | VM), size)) return FAULT;
      endStack();
      return NEXT;
    case o.S_POPF: {
      beginStack();
      const v = popValue(size);
      if (isFaulted()) return FAULT;
      endStack();
      restoreFlags(v & ~<u64>RF, size, cpl());
      return NEXT;
    }
    case o.S_ENTER: return enter(d, size);
    case o.S_LEAVE: {
      const saved = load<u64>(RSP);
      const mask = stackMask();
      store<u64>(RSP, (load<u64>(RSP) & ~mask) | (load<u64>(RBP) & mask));
      beginStack();
      const v = popValue(size);
      if (isFaulted()) { store<u64>(RSP, saved); return FAULT; }
      endStack();
      putSized(RBP, v, size);
      return NEXT;
    }
    case o.S_CALL:
      beginStack();
      if (!pushValue(nextRip(d), size) || !isBranchTarget(relativeTarget(d, size))) return FAULT;
      endStack();
      return jump(relativeTarget(d, size));
    case o.S_RET: {
      beginStack();
      const rip = popValue(size);
      if (isFaulted() || !isBranchTarget(rip)) return FAULT;
      moveCursor(<u64>immOf(d));
      endStack();
      return jump(rip);
    }
    case o.S_JMP: return jump(relativeTarget(d, size));
    case o.S_JCC: return jump(conditionOf(<u32>dstOf(d)) ? relativeTarget(d, size) : nextRip(d));
    case o.S_LOOP: return loop(d, size);
    case o.S_CALL_RM: {
      const p = rmRead(d, 1 << size);
      if (!p) return FAULT;
      const rip = load_(p, size);
      beginStack();
      if (!pushValue(nextRip(d), size) || !isBranchTarget(rip)) return FAULT;
      endStack();
      return jump(rip);
    }
    case o.S_JMP_RM: {
      const p = rmRead(d, 1 << size);
      return p ? jump(load_(p, size)) : FAULT;
    }
    case o.S_CALL_FAR: case o.S_JMP_FAR: {
      let offset = <u64>immOf(d) & 0xffffffff;
      let selector = <u32>(immOf(d) >> 32) & 0xffff;
      if (!srcOf(d)) {
        const p = readable(d, ea(d), (1 << size) + 2);
        if (!p) return FAULT;
        offset = load_(p, size);
        selector = load<u16>(p + (1 << size));
      }
      const ok = id == o.S_CALL_FAR ? farCall(selector, offset, nextRip(d), size) : farJump(selector, offset, size);
      return ok ? JUMP : FAULT;
    }
    case o.S_RET_FAR: return farReturn(<u32>immOf(d), size) ? JUMP : FAULT;
    case o.S_IRET:
      if (!interruptReturn(size)) return FAULT;
      store<u32>(L.NMI_MASKED, 0);
      if (load<u32>(L.NMI_PENDING)) store<u32>(L.ATTENTION, load<u32>(L.ATTENTION) | 1);
      return JUMP;
    case o.S_INT: return softwareInterrupt(d, size);
    case o.S_INTO:
      if (!isOverflow()) return NEXT;
      store<u64>(L.RIP, nextRip(d));
      return entered(interrupt(OF_TRAP, SOFTWARE, 0));
    case o.S_PUSHA: {
      beginStack();
      const sp = load<u64>(RSP);
      for (let i: usize = 0; i < 8; i++) if (!pushValue(i == 4 ? sp : load<u64>(RAX + (i << 3)), size)) return FAULT;
      endStack();
      return NEXT;
    }
    case o.S_POPA: return popAll(size);
    case o.S_PUSH_SEG:
      beginStack();
      if (!pushValue(<u64>selectorOf(<u32>immOf(d)), size)) return FAULT;
      endStack();
      return NEXT;
    case o.S_POP_SEG: {
      beginStack();
      const v = popValue(size);
      if (isFaulted() || !loadDataSegment(<u32>immOf(d), <u32>v & 0xffff)) return FAULT;
      endStack();
      if (<u32>immOf(d) == SS) inhibit(true);
      return NEXT;
    }
    case o.S_MOV_TO_SEG: {
      const p = rmRead(d, 2);
      if (!p || !loadDataSegment(<u32>immOf(d), load<u16>(p))) return FAULT;
      if (<u32>immOf(d) == SS) inhibit(true);
      return NEXT;
    }
    case o.S_MOV_FROM_SEG: {
      const p = rmWrite(d, 2);
      if (!p) return FAULT;
      const v = <u64>selectorOf(<u32>immOf(d));
      if (srcOf(d)) putSized(p, v, size);
      else { store<u16>(p, <u16>v); commit(p); }
      return NEXT;
    }
    default: { // S_LOAD_FAR
      const p = readable(d, ea(d), (1 << size) + 2);
      if (!p) return FAULT;
      const offset = load_(p, size);
      const selector = <u32>load<u16>(p + (1 << size));
      if (!loadDataSegment(<u32>immOf(d), selector)) return FAULT;
      putSized(dstOf(d), offset, size);
      return NEXT;
    }
  }
}

/** Runs the prefix record `e` once more. */
function addressAgain(e: usize): bool {
  const op = opOf(e);
  const base = load<u64>(srcOf(e));
  if (op == o.OP_EA64) store<u64>(L.EA, ea(e) + base);
  else if (op == o.OP_EA32) store<u64>(L.EA, segmented(ea(e) & 0xffffffff, base));
  else return checkedAddress(e);
  return true;
}

function pop(d: usize, size: u32): u32 {
  beginStack();
  const v = popValue(size);
  if (isFaulted()) return FAULT;
  const saved = load<u64>(RSP);
  endStack(); // an address based on RSP is computed after the increment
  if (srcOf(d)) { putSized(srcOf(d), v, size); return NEXT; }
  const isAddressed = load<u16>(d, 16) != <u16>L.EA || addressAgain(d - RECORD);
  const p = isAddressed ? writable(d, ea(d), 1 << size) : 0;
  if (!p) { store<u64>(RSP, saved); return FAULT; }
  store_(p, v, size);
  commit(p);
  return NEXT;
}

function popAll(size: u32): u32 {
  beginStack();
  for (let i = 7; i >= 0; i--) { popValue(size); if (isFaulted()) return FAULT; }
  beginStack();
  for (let i = 7; i >= 0; i--) {
    const v = popValue(size);
    if (i != 4) putSized(RAX + (<usize>i << 3), v, size);
  }
  endStack();
  return NEXT;
}

function enter(d: usize, size: u32): u32 {
  const imm = <u32>immOf(d);
  const level = imm >> 16;
  const allocate = <u64>(imm & 0xffff);
  const mask = stackMask();
  beginStack();
  if (!pushValue(load<u64>(RBP), size)) return FAULT;
  const frame = cursor;
  if (level > 0) {
    let at = load<u64>(RBP);
    for (let i: u32 = 1; i < level; i++) {
      at = (at & ~mask) | ((at - (<u64>1 << size)) & mask);
      const from = linearStack(at & mask, 1 << size);
      const p = raised ? 0 : readable(d, from, 1 << size);
      if (!p || !pushValue(load_(p, size), size)) return FAULT;
    }
    if (!pushValue(frame, size)) return FAULT;
  }
  const top = (cursor - allocate) & mask;
  const newTop = linearStack(top, 1);
  if (raised || !writable(d, newTop, 1)) return FAULT; // the new top must be writable (SDM 2A, ENTER)
  moveCursor(0 - allocate);
  endStack();
  putSized(RBP, mask == 0xffff ? (load<u64>(RBP) & ~mask) | frame : frame, size);
  return NEXT;
}

function linearStack(sp: u64, size: u32): u64 {
  return segmentAddress(mode() == MODE_64 ? L.ZERO : segPtr(SS), sp, size, true);
}

/** LOOPNE, LOOPE, LOOP, JrCXZ: dst 0–3. */
function loop(d: usize, size: u32): u32 {
  const kind = <u32>dstOf(d);
  const addressSize = <u32>srcOf(d);
  const mask: u64 = addressSize == 3 ? ~(<u64>0) : addressSize == 2 ? 0xffffffff : 0xffff;
  if (kind == 3) return jump(load<u64>(RCX) & mask ? nextRip(d) : relativeTarget(d, size));
  const count = (load<u64>(RCX) - 1) & mask;
  const taken = count != 0 && (kind == 2 || isZero() == (kind == 1));
  if (taken && !isBranchTarget(relativeTarget(d, size))) return FAULT;
  if (mask == 0xffff) store<u16>(RCX, <u16>count);
  else store<u64>(RCX, count);
  return jump(taken ? relativeTarget(d, size) : nextRip(d));
}

/** INT3, INT1 (size 0) and INT n (size 1). */
function softwareInterrupt(d: usize, size: u32): u32 {
  const vector = <i32>immOf(d);
  const rip = load<u64>(L.RIP);
  if (mode() != MODE_64 && load<u32>(L.RFLAGS) & VM) { raise(GP, 0); return FAULT; }
  store<u64>(L.RIP, nextRip(d));
  if (interrupt(vector, size == 0 && vector == DB ? HARDWARE : SOFTWARE, 0)) return entered(true);
  store<u64>(L.RIP, rip);
  return FAULT;
}

/** INT n and INTO clear TF and are not themselves stepped (SDM 3B §17.3.1.4). */
function entered(ok: bool): u32 {
  if (!ok) return FAULT;
  store<u32>(STEP_ARMED, 0);
  return JUMP;
}
