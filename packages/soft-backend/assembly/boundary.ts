// What happens between instructions: faults, interrupts, single steps, the end of a run.
import * as L from "../src/cpu/layout";
import { HEADER, blockEpoch, cut, isChainable, lengthOf, lookup } from "./blocks";
import { DR6_BS, hasBreakpoints, raiseDebug } from "./debug";
import { NMI, UNIMPLEMENTED, clearFault, faultError, faultVector, raise } from "./faults";
import { DEBUG_HITS, SSE_BLOCKED, STEP_ARMED } from "./fields";
import { acknowledge } from "./host";
import { HARDWARE, SHADOW_STACK, deliverFault, interrupt, tripleFaultVector } from "./interrupts";
import { countBase, fetchable } from "./mmu";
import { OP_NEXT, OP_STOP } from "./ops";
import { AGAIN, FAULT, JUMP } from "./results";
import { CS_BASE, IF, MODE_64, RF, TF, endOf, immOf, mode, opOf, remOf, startOf } from "./state";

const STOP_BLOCK: usize = memory.data(80, 16) + HEADER;

/** Linear address RIP names. */
function linearRip(): u64 {
  const rip = load<u64>(CS_BASE) + load<u64>(L.RIP);
  return mode() == MODE_64 ? rip : rip & 0xffffffff;
}

function setRip(linear: u64): void {
  const rip = linear - load<u64>(CS_BASE);
  store<u64>(L.RIP, mode() == MODE_64 ? rip : rip & 0xffffffff);
}

/** Address arithmetic of prefix records: 32 bits wide outside 64-bit mode. */
export function segmented(offset: u64, base: u64): u64 {
  const va = base + offset;
  return mode() == MODE_64 ? va : va & 0xffffffff;
}

function giveBack(instructions: i32): void { store<i32>(L.LEFT, load<i32>(L.LEFT) + instructions); }

function stop(code: u32): usize {
  store<u32>(L.EXIT_CODE, code);
  store<u16>(STOP_BLOCK, <u16>OP_STOP);
  return STOP_BLOCK;
}

/** Ends the run in front of the instruction at RIP, of at most `length` bytes: what it leads to is not implemented. */
function unimplemented(length: u32): usize {
  store<u32>(L.EXIT_ARG, faultError);
  clearFault();
  const cr2 = load<u64>(L.CR2);
  const start = linearRip();
  let count: u32 = 0;
  while (count < length && count < 15) {
    const p = fetchable(mode() == MODE_64 ? start + count : (start + count) & 0xffffffff);
    if (p <= 1) break;
    store<u8>(L.EXIT_BYTES + 4 + count, load<u8>(p));
    count++;
  }
  clearFault();
  store<u64>(L.CR2, cr2);
  store<u32>(L.EXIT_BYTES, count);
  return stop(L.EXIT_UNIMPLEMENTED);
}

/** The whole of the processor's state is one that the core does not implement. */
export function lacks(what: u32): usize {
  raise(UNIMPLEMENTED, what);
  return unimplemented(15);
}

/** An exception or interrupt could not be delivered. */
function undelivered(): usize {
  if (faultVector == UNIMPLEMENTED) return unimplemented(15);
  store<u32>(L.EXIT_ARG, <u32>tripleFaultVector);
  return stop(L.EXIT_SHUTDOWN);
}

/** The instruction of record `d` has raised a fault: takes it and goes on in the handler. */
export function fault(d: usize): usize {
  giveBack(remOf(d));
  setRip(startOf(d));
  store<u32>(DEBUG_HITS, 0);
  if (faultVector == UNIMPLEMENTED) return unimplemented(<u32>load<u16>(d, 4) - <u32>load<u16>(d, 2));
  return deliverFault() ? resume(0) : undelivered();
}

/** An SSE instruction meets CR0 or CR4. */
export function blocked(d: usize): usize {
  raise(<i32>load<u32>(SSE_BLOCKED), 0);
  return fault(d);
}

/** The slow instruction of `d` did not simply complete. */
export function after(d: usize, result: u32): usize {
  if (result == FAULT) return fault(d);
  if (result == JUMP) return lookupAndEnter(linearRip());
  giveBack(remOf(d) - 1);
  if (result == AGAIN) {
    if (hasBreakpoints) { // the instruction has begun: its breakpoint is behind it
      store<u64>(L.RFLAGS, load<u64>(L.RFLAGS) | <u64>RF);
      store<u32>(L.ATTENTION, load<u32>(L.ATTENTION) | 1);
    }
    return lookupAndEnter(startOf(d));
  }
  setRip(endOf(d));
  return stop(load<u32>(L.EXIT_CODE));
}

/** What was decoded at `d` is gone: finds it anew. */
export function revisit(d: usize): usize {
  giveBack(remOf(d));
  return lookupAndEnter(startOf(d));
}

export function lookupAndEnter(linear: u64): usize {
  // What is due between instructions comes before a fault of the next one's fetch.
  if (load<u32>(L.ATTENTION)) { setRip(linear); return resume(0); }
  const block = lookup(linear);
  if (!block) {
    setRip(linear);
    return deliverFault() ? resume(0) : undelivered();
  }
  giveBack(-lengthOf(block));
  return load<i32>(L.LEFT) < 0 ? attend(block) : block;
}

/** Finds the block of a constant target in the running page and remembers it at `slot`, if that may be. */
export function link(slot: usize, to: u64): usize {
  if (load<u32>(L.ATTENTION)) { setRip(to); return resume(0); }
  const mayRemember = opOf(slot - 8) != OP_NEXT || immOf(slot - 8) == 0;
  const epoch = blockEpoch;
  const block = lookup(to);
  if (!block) {
    setRip(to);
    return deliverFault() ? resume(0) : undelivered();
  }
  if (mayRemember && epoch == blockEpoch && isChainable(block)) store<u32>(slot, <u32>block);
  giveBack(-lengthOf(block));
  if (load<i32>(L.LEFT) < 0 || load<u32>(L.ATTENTION)) return attend(block);
  return block;
}

/** A block has been taken off the budget, but the budget is short or somebody wants attention. */
export function attend(block: usize): usize {
  giveBack(lengthOf(block));
  setRip(startOf(block));
  return resume(block);
}

/** Exceptions and interrupts in a row, without an instruction between, that cost as much as one instruction. */
const DELIVERIES: u32 = 256;
let deliveries: u32 = 0;
let lastCount: u64 = 0;

/** A guest whose handlers fault at their first instruction gets nowhere: it must use up its budget even so. */
function chargeDelivery(): void {
  const count = countBase - <u64>load<i32>(L.LEFT);
  if (count != lastCount) { lastCount = count; deliveries = 0; }
  else if (++deliveries >= DELIVERIES) { deliveries = 0; giveBack(-1); }
}

/** Goes on at RIP (whose block, if known, is given), after looking at everything that may come between. */
export function resume(block: usize): usize {
  let d = block;
  while (true) {
    chargeDelivery();
    if (load<u32>(L.ATTENTION) & 2) {
      store<u32>(L.ATTENTION, load<u32>(L.ATTENTION) & ~2);
      return stop(L.EXIT_KICK);
    }
    if ((load<u32>(STEP_ARMED) | load<u32>(DEBUG_HITS)) && load<u32>(L.SHADOW) != SHADOW_STACK) {
      raiseDebug(load<u32>(DEBUG_HITS) | (load<u32>(STEP_ARMED) ? DR6_BS : 0));
      store<u32>(STEP_ARMED, 0);
      store<u32>(DEBUG_HITS, 0);
      if (!deliverFault()) return undelivered();
      d = 0;
    }
    const shadow = load<u32>(L.SHADOW) != 0;
    if (!shadow) {
      if (load<u32>(L.NMI_PENDING) && !load<u32>(L.NMI_MASKED)) {
        store<u32>(L.NMI_PENDING, 0);
        store<u32>(L.NMI_MASKED, 1);
        store<u32>(L.HALTED, 0);
        if (!interrupt(NMI, HARDWARE, 0) && !deliverFault()) return undelivered();
        d = 0;
        continue;
      }
      if (load<u32>(L.INTR) && load<u32>(L.RFLAGS) & IF) {
        const vector = acknowledge();
        if (vector >= 0) {
          store<u32>(L.HALTED, 0);
          if (!interrupt(vector, HARDWARE, 0) && !deliverFault()) return undelivered();
          d = 0;
          continue;
        }
      }
    }
    if (load<u32>(L.HALTED)) return stop(L.EXIT_HALT);
    if (load<i32>(L.LEFT) <= 0) return stop(L.EXIT_BUDGET);
    if (!d) {
      d = lookup(linearRip());
      if (!d) {
        if (!deliverFault()) return undelivered();
        continue;
      }
    }
    const flags = load<u32>(L.RFLAGS);
    const isStep = (flags & TF) != 0;
    const isPending = load<u32>(L.INTR) != 0 || load<u32>(L.NMI_PENDING) != 0 || load<u32>(DEBUG_HITS) != 0;
    const isAlone = isStep || (shadow && isPending) || (flags & RF) != 0;
    if (flags & RF) store<u64>(L.RFLAGS, load<u64>(L.RFLAGS) & ~<u64>RF);
    store<u32>(L.SHADOW, 0);
    store<u32>(STEP_ARMED, isStep ? 1 : 0);
    store<u32>(L.ATTENTION, isAlone ? 1 : 0);
    const length = lengthOf(d);
    const most = isAlone ? 1 : min(length, load<i32>(L.LEFT));
    giveBack(-most);
    return most < length ? cut(d, most) : d;
  }
}

/** The count of instructions at the end of a run. */
export function finishCount(): void { store<u64>(L.ICOUNT, countBase - <u64>load<i32>(L.LEFT)); }
