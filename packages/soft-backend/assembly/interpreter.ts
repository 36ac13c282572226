// The run loop: executes records until the run ends.
import { ATTENTION, EA, LEFT, RIP_BASE } from "../src/cpu/layout";
import { multiplyTo, put } from "./arithmetic";
import { adc, add, and, cmp, dec, inc, or, rol, ror, sar, sbb, setCarry, shl, shr, sub, test, xor } from "./alu";
import { lengthOf, jumpEntry } from "./blocks";
import { after, attend, blocked, fault, link, lookupAndEnter, revisit, segmented } from "./boundary";
import { GP, asStackFault, raise } from "./faults";
import { SSE_BLOCKED } from "./fields";
import { condition, conditionOf } from "./flags";
import { commit, modifiable, readable, writable } from "./mmu";
import {
  OP_CALL, OP_CALL_M, OP_CALL_R, OP_CMOV32, OP_CMOV32_M, OP_CMOV64, OP_CMOV64_M, OP_DEAD, OP_EA16, OP_EA32, OP_EA16_SEG, OP_EA32_SEG, OP_EA64, OP_EA_IMM, OP_EA_IMM_SEG, OP_JMP, OP_JMP_M,
  OP_JMP_R, OP_LEAVE64, OP_MOVDQA_MR, OP_MOVDQA_RM, OP_MOVDQA_RR, OP_MOVDQU_MR, OP_MOVDQU_RM, OP_NEXT, OP_NOP, OP_POP64, OP_PUSH64, OP_PUSH64_M, OP_RET,
  OP_SETCC, OP_SPLIT, OP_STOP,
} from "./ops";
import { prefixAddress } from "./segment-checks";
import { NEXT } from "./results";
import { slow } from "./slow";
import { JUMP_TAG, RAX, RBP, RCX, RDX, RECORD, RSP, dstOf, ea, endOf, immOf, opOf, srcOf } from "./state";

/** Takes a block's instructions off the budget; the rare reasons not to start it are attend's. */
// @ts-ignore: decorator
@inline function enter(block: usize): usize {
  const left = load<i32>(LEFT) - lengthOf(block);
  store<i32>(LEFT, left);
  if (left < 0 || load<u32>(ATTENTION)) return attend(block);
  return block;
}

/** Goes to a linear address (64-bit mode: RIP itself). */
// @ts-ignore: decorator
@inline function jump(to: u64): usize {
  const e = jumpEntry(to);
  if (load<u64>(e) == to && load<u32>(e, 8) == load<u32>(JUMP_TAG)) {
    store<u64>(RIP_BASE, to & ~0xfff);
    return enter(load<u32>(e, 12));
  }
  return lookupAndEnter(to);
}

/** Goes to a constant target; inside the page the block is remembered in the record's first slot. */
// @ts-ignore: decorator
@inline function follow(d: usize, to: u64): usize {
  const next: usize = load<u32>(d, 8);
  if (next) return enter(next);
  if ((to ^ load<u64>(RIP_BASE)) >> 12) return jump(to);
  return link(d + 8, to);
}

// @ts-ignore: decorator
@inline function branch(d: usize, isTaken: bool): usize {
  const slot = isTaken ? d + 8 : d + 12;
  const next: usize = load<u32>(slot);
  if (next) return enter(next);
  const to = endOf(d) + (isTaken ? <u64>immOf(d) : 0);
  if ((to ^ load<u64>(RIP_BASE)) >> 12) return jump(to);
  return link(slot, to);
}

// @ts-ignore: decorator
@inline function pushReturn(d: usize): bool {
  const sp = load<u64>(RSP) - 8;
  const p = writable(d, sp, 8);
  if (!p) { asStackFault(); return false; }
  store<u64>(p, endOf(d));
  commit(p);
  store<u64>(RSP, sp);
  return true;
}

/** A branch to a non-canonical address faults on the branch. */
// @ts-ignore: decorator
@inline function isTarget(to: u64): bool {
  return <u64>(<i64>(to << 16) >> 16) == to || raise(GP, 0) != 0;
}

/** A call first finds its stack, then its target. */
// @ts-ignore: decorator
@inline function isCallTarget(d: usize, to: u64): bool {
  if (<u64>(<i64>(to << 16) >> 16) == to) return true;
  if (writable(d, load<u64>(RSP) - 8, 8)) raise(GP, 0);
  else asStackFault();
  return false;
}

/** Executes from record `d` until a record says stop. Cases are dense; the numbers are those of ops.ts. */
export function execute(d: usize): void {
  while (true) {
    switch (opOf(d)) {
      case 0: put<u8>(dstOf(d), add<u8>(load<u8>(dstOf(d)), load<u8>(srcOf(d)))); break;
      case 1: put<u16>(dstOf(d), add<u16>(load<u16>(dstOf(d)), load<u16>(srcOf(d)))); break;
      case 2: put<u32>(dstOf(d), add<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d)))); break;
      case 3: put<u64>(dstOf(d), add<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d)))); break;
      case 4: put<u8>(dstOf(d), or<u8>(load<u8>(dstOf(d)), load<u8>(srcOf(d)))); break;
      case 5: put<u16>(dstOf(d), or<u16>(load<u16>(dstOf(d)), load<u16>(srcOf(d)))); break;
      case 6: put<u32>(dstOf(d), or<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d)))); break;
      case 7: put<u64>(dstOf(d), or<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d)))); break;
      case 8: put<u8>(dstOf(d), adc<u8>(load<u8>(dstOf(d)), load<u8>(srcOf(d)))); break;
      case 9: put<u16>(dstOf(d), adc<u16>(load<u16>(dstOf(d)), load<u16>(srcOf(d)))); break;
      case 10: put<u32>(dstOf(d), adc<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d)))); break;
      case 11: put<u64>(dstOf(d), adc<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d)))); break;
      case 12: put<u8>(dstOf(d), sbb<u8>(load<u8>(dstOf(d)), load<u8>(srcOf(d)))); break;
      case 13: put<u16>(dstOf(d), sbb<u16>(load<u16>(dstOf(d)), load<u16>(srcOf(d)))); break;
      case 14: put<u32>(dstOf(d), sbb<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d)))); break;
      case 15: put<u64>(dstOf(d), sbb<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d)))); break;
      case 16: put<u8>(dstOf(d), and<u8>(load<u8>(dstOf(d)), load<u8>(srcOf(d)))); break;
      case 17: put<u16>(dstOf(d), and<u16>(load<u16>(dstOf(d)), load<u16>(srcOf(d)))); break;
      case 18: put<u32>(dstOf(d), and<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d)))); break;
      case 19: put<u64>(dstOf(d), and<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d)))); break;
      case 20: put<u8>(dstOf(d), sub<u8>(load<u8>(dstOf(d)), load<u8>(srcOf(d)))); break;
      case 21: put<u16>(dstOf(d), sub<u16>(load<u16>(dstOf(d)), load<u16>(srcOf(d)))); break;
      case 22: put<u32>(dstOf(d), sub<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d)))); break;
      case 23: put<u64>(dstOf(d), sub<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d)))); break;
      case 24: put<u8>(dstOf(d), xor<u8>(load<u8>(dstOf(d)), load<u8>(srcOf(d)))); break;
      case 25: put<u16>(dstOf(d), xor<u16>(load<u16>(dstOf(d)), load<u16>(srcOf(d)))); break;
      case 26: put<u32>(dstOf(d), xor<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d)))); break;
      case 27: put<u64>(dstOf(d), xor<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d)))); break;
      case 28: cmp<u8>(load<u8>(dstOf(d)), load<u8>(srcOf(d))); break;
      case 29: cmp<u16>(load<u16>(dstOf(d)), load<u16>(srcOf(d))); break;
      case 30: cmp<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 31: cmp<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 32: test<u8>(load<u8>(dstOf(d)), load<u8>(srcOf(d))); break;
      case 33: test<u16>(load<u16>(dstOf(d)), load<u16>(srcOf(d))); break;
      case 34: test<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 35: test<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 36: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } put<u8>(dstOf(d), add<u8>(load<u8>(dstOf(d)), load<u8>(p))); break; }
      case 37: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } put<u16>(dstOf(d), add<u16>(load<u16>(dstOf(d)), load<u16>(p))); break; }
      case 38: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } put<u32>(dstOf(d), add<u32>(load<u32>(dstOf(d)), load<u32>(p))); break; }
      case 39: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } put<u64>(dstOf(d), add<u64>(load<u64>(dstOf(d)), load<u64>(p))); break; }
      case 40: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } put<u8>(dstOf(d), or<u8>(load<u8>(dstOf(d)), load<u8>(p))); break; }
      case 41: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } put<u16>(dstOf(d), or<u16>(load<u16>(dstOf(d)), load<u16>(p))); break; }
      case 42: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } put<u32>(dstOf(d), or<u32>(load<u32>(dstOf(d)), load<u32>(p))); break; }
      case 43: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } put<u64>(dstOf(d), or<u64>(load<u64>(dstOf(d)), load<u64>(p))); break; }
      case 44: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } put<u8>(dstOf(d), adc<u8>(load<u8>(dstOf(d)), load<u8>(p))); break; }
      case 45: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } put<u16>(dstOf(d), adc<u16>(load<u16>(dstOf(d)), load<u16>(p))); break; }
      case 46: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } put<u32>(dstOf(d), adc<u32>(load<u32>(dstOf(d)), load<u32>(p))); break; }
      case 47: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } put<u64>(dstOf(d), adc<u64>(load<u64>(dstOf(d)), load<u64>(p))); break; }
      case 48: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } put<u8>(dstOf(d), sbb<u8>(load<u8>(dstOf(d)), load<u8>(p))); break; }
      case 49: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } put<u16>(dstOf(d), sbb<u16>(load<u16>(dstOf(d)), load<u16>(p))); break; }
      case 50: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } put<u32>(dstOf(d), sbb<u32>(load<u32>(dstOf(d)), load<u32>(p))); break; }
      case 51: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } put<u64>(dstOf(d), sbb<u64>(load<u64>(dstOf(d)), load<u64>(p))); break; }
      case 52: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } put<u8>(dstOf(d), and<u8>(load<u8>(dstOf(d)), load<u8>(p))); break; }
      case 53: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } put<u16>(dstOf(d), and<u16>(load<u16>(dstOf(d)), load<u16>(p))); break; }
      case 54: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } put<u32>(dstOf(d), and<u32>(load<u32>(dstOf(d)), load<u32>(p))); break; }
      case 55: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } put<u64>(dstOf(d), and<u64>(load<u64>(dstOf(d)), load<u64>(p))); break; }
      case 56: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } put<u8>(dstOf(d), sub<u8>(load<u8>(dstOf(d)), load<u8>(p))); break; }
      case 57: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } put<u16>(dstOf(d), sub<u16>(load<u16>(dstOf(d)), load<u16>(p))); break; }
      case 58: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } put<u32>(dstOf(d), sub<u32>(load<u32>(dstOf(d)), load<u32>(p))); break; }
      case 59: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } put<u64>(dstOf(d), sub<u64>(load<u64>(dstOf(d)), load<u64>(p))); break; }
      case 60: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } put<u8>(dstOf(d), xor<u8>(load<u8>(dstOf(d)), load<u8>(p))); break; }
      case 61: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } put<u16>(dstOf(d), xor<u16>(load<u16>(dstOf(d)), load<u16>(p))); break; }
      case 62: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } put<u32>(dstOf(d), xor<u32>(load<u32>(dstOf(d)), load<u32>(p))); break; }
      case 63: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } put<u64>(dstOf(d), xor<u64>(load<u64>(dstOf(d)), load<u64>(p))); break; }
      case 64: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } cmp<u8>(load<u8>(dstOf(d)), load<u8>(p)); break; }
      case 65: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } cmp<u16>(load<u16>(dstOf(d)), load<u16>(p)); break; }
      case 66: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } cmp<u32>(load<u32>(dstOf(d)), load<u32>(p)); break; }
      case 67: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } cmp<u64>(load<u64>(dstOf(d)), load<u64>(p)); break; }
      case 68: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } test<u8>(load<u8>(dstOf(d)), load<u8>(p)); break; }
      case 69: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } test<u16>(load<u16>(dstOf(d)), load<u16>(p)); break; }
      case 70: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } test<u32>(load<u32>(dstOf(d)), load<u32>(p)); break; }
      case 71: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } test<u64>(load<u64>(dstOf(d)), load<u64>(p)); break; }
      case 72: { const p = modifiable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, add<u8>(load<u8>(p), load<u8>(srcOf(d)))); commit(p); break; }
      case 73: { const p = modifiable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, add<u16>(load<u16>(p), load<u16>(srcOf(d)))); commit(p); break; }
      case 74: { const p = modifiable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, add<u32>(load<u32>(p), load<u32>(srcOf(d)))); commit(p); break; }
      case 75: { const p = modifiable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, add<u64>(load<u64>(p), load<u64>(srcOf(d)))); commit(p); break; }
      case 76: { const p = modifiable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, or<u8>(load<u8>(p), load<u8>(srcOf(d)))); commit(p); break; }
      case 77: { const p = modifiable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, or<u16>(load<u16>(p), load<u16>(srcOf(d)))); commit(p); break; }
      case 78: { const p = modifiable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, or<u32>(load<u32>(p), load<u32>(srcOf(d)))); commit(p); break; }
      case 79: { const p = modifiable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, or<u64>(load<u64>(p), load<u64>(srcOf(d)))); commit(p); break; }
      case 80: { const p = modifiable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, adc<u8>(load<u8>(p), load<u8>(srcOf(d)))); commit(p); break; }
      case 81: { const p = modifiable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, adc<u16>(load<u16>(p), load<u16>(srcOf(d)))); commit(p); break; }
      case 82: { const p = modifiable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, adc<u32>(load<u32>(p), load<u32>(srcOf(d)))); commit(p); break; }
      case 83: { const p = modifiable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, adc<u64>(load<u64>(p), load<u64>(srcOf(d)))); commit(p); break; }
      case 84: { const p = modifiable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, sbb<u8>(load<u8>(p), load<u8>(srcOf(d)))); commit(p); break; }
      case 85: { const p = modifiable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, sbb<u16>(load<u16>(p), load<u16>(srcOf(d)))); commit(p); break; }
      case 86: { const p = modifiable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, sbb<u32>(load<u32>(p), load<u32>(srcOf(d)))); commit(p); break; }
      case 87: { const p = modifiable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, sbb<u64>(load<u64>(p), load<u64>(srcOf(d)))); commit(p); break; }
      case 88: { const p = modifiable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, and<u8>(load<u8>(p), load<u8>(srcOf(d)))); commit(p); break; }
      case 89: { const p = modifiable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, and<u16>(load<u16>(p), load<u16>(srcOf(d)))); commit(p); break; }
      case 90: { const p = modifiable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, and<u32>(load<u32>(p), load<u32>(srcOf(d)))); commit(p); break; }
      case 91: { const p = modifiable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, and<u64>(load<u64>(p), load<u64>(srcOf(d)))); commit(p); break; }
      case 92: { const p = modifiable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, sub<u8>(load<u8>(p), load<u8>(srcOf(d)))); commit(p); break; }
      case 93: { const p = modifiable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, sub<u16>(load<u16>(p), load<u16>(srcOf(d)))); commit(p); break; }
      case 94: { const p = modifiable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, sub<u32>(load<u32>(p), load<u32>(srcOf(d)))); commit(p); break; }
      case 95: { const p = modifiable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, sub<u64>(load<u64>(p), load<u64>(srcOf(d)))); commit(p); break; }
      case 96: { const p = modifiable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, xor<u8>(load<u8>(p), load<u8>(srcOf(d)))); commit(p); break; }
      case 97: { const p = modifiable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, xor<u16>(load<u16>(p), load<u16>(srcOf(d)))); commit(p); break; }
      case 98: { const p = modifiable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, xor<u32>(load<u32>(p), load<u32>(srcOf(d)))); commit(p); break; }
      case 99: { const p = modifiable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, xor<u64>(load<u64>(p), load<u64>(srcOf(d)))); commit(p); break; }
      case 100: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } cmp<u8>(load<u8>(p), load<u8>(srcOf(d))); break; }
      case 101: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } cmp<u16>(load<u16>(p), load<u16>(srcOf(d))); break; }
      case 102: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } cmp<u32>(load<u32>(p), load<u32>(srcOf(d))); break; }
      case 103: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } cmp<u64>(load<u64>(p), load<u64>(srcOf(d))); break; }
      case 104: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } test<u8>(load<u8>(p), load<u8>(srcOf(d))); break; }
      case 105: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } test<u16>(load<u16>(p), load<u16>(srcOf(d))); break; }
      case 106: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } test<u32>(load<u32>(p), load<u32>(srcOf(d))); break; }
      case 107: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } test<u64>(load<u64>(p), load<u64>(srcOf(d))); break; }
      case 108: put<u8>(dstOf(d), load<u8>(srcOf(d))); break;
      case 109: put<u16>(dstOf(d), load<u16>(srcOf(d))); break;
      case 110: put<u32>(dstOf(d), load<u32>(srcOf(d))); break;
      case 111: put<u64>(dstOf(d), load<u64>(srcOf(d))); break;
      case 112: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } put<u8>(dstOf(d), load<u8>(p)); break; }
      case 113: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } put<u16>(dstOf(d), load<u16>(p)); break; }
      case 114: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } put<u32>(dstOf(d), load<u32>(p)); break; }
      case 115: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } put<u64>(dstOf(d), load<u64>(p)); break; }
      case 116: { const p = writable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, load<u8>(srcOf(d))); commit(p); break; }
      case 117: { const p = writable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, load<u16>(srcOf(d))); commit(p); break; }
      case 118: { const p = writable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, load<u32>(srcOf(d))); commit(p); break; }
      case 119: { const p = writable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, load<u64>(srcOf(d))); commit(p); break; }
      case 120: store<u64>(dstOf(d), <u64>load<u8>(srcOf(d))); break;
      case 121: store<u64>(dstOf(d), <u64>load<u16>(srcOf(d))); break;
      case 122: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u64>(dstOf(d), <u64>load<u8>(p)); break; }
      case 123: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u64>(dstOf(d), <u64>load<u16>(p)); break; }
      case 124: store<u64>(dstOf(d), <u64><u32><i32>load<i8>(srcOf(d))); break;
      case 125: store<i64>(dstOf(d), <i64>load<i8>(srcOf(d))); break;
      case 126: store<u64>(dstOf(d), <u64><u32><i32>load<i16>(srcOf(d))); break;
      case 127: store<i64>(dstOf(d), <i64>load<i16>(srcOf(d))); break;
      case 128: store<i64>(dstOf(d), <i64>load<i32>(srcOf(d))); break;
      case 129: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u64>(dstOf(d), <u64><u32><i32>load<i8>(p)); break; }
      case 130: { const p = readable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<i64>(dstOf(d), <i64>load<i8>(p)); break; }
      case 131: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u64>(dstOf(d), <u64><u32><i32>load<i16>(p)); break; }
      case 132: { const p = readable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<i64>(dstOf(d), <i64>load<i16>(p)); break; }
      case 133: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<i64>(dstOf(d), <i64>load<i32>(p)); break; }
      case 134: store<u64>(dstOf(d), ea(d)); break;
      case 135: store<u64>(dstOf(d), ea(d) & 0xffffffff); break;
      case OP_PUSH64: { const sp = load<u64>(RSP) - 8; const p = writable(d, sp, 8); if (!p) { asStackFault(); d = fault(d); continue; } store<u64>(p, load<u64>(srcOf(d))); commit(p); store<u64>(RSP, sp); break; }
      case OP_POP64: { const sp = load<u64>(RSP); const p = readable(d, sp, 8); if (!p) { asStackFault(); d = fault(d); continue; } store<u64>(RSP, sp + 8); store<u64>(dstOf(d), load<u64>(p)); break; }
      case OP_CALL: { if (!pushReturn(d)) { d = fault(d); continue; } d = follow(d, endOf(d) + <u64>immOf(d)); continue; }
      case OP_RET: {
        const sp = load<u64>(RSP);
        const p = readable(d, sp, 8);
        if (!p) { asStackFault(); d = fault(d); continue; }
        const to = load<u64>(p);
        if (!isTarget(to)) { d = fault(d); continue; }
        store<u64>(RSP, sp + 8 + <u64>immOf(d));
        d = jump(to);
        continue;
      }
      case OP_JMP: d = follow(d, endOf(d) + <u64>immOf(d)); continue;
      case OP_JMP_R: { const to = load<u64>(srcOf(d)); if (!isTarget(to)) { d = fault(d); continue; } d = jump(to); continue; }
      case OP_JMP_M: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } const to = load<u64>(p); if (!isTarget(to)) { d = fault(d); continue; } d = jump(to); continue; }
      case OP_CALL_R: { const to = load<u64>(srcOf(d)); if (!isCallTarget(d, to) || !pushReturn(d)) { d = fault(d); continue; } d = jump(to); continue; }
      case OP_CALL_M: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } const to = load<u64>(p); if (!isCallTarget(d, to) || !pushReturn(d)) { d = fault(d); continue; } d = jump(to); continue; }
      case OP_PUSH64_M: { const q = readable(d, ea(d), 8); if (!q) { d = fault(d); continue; } const v = load<u64>(q); const sp = load<u64>(RSP) - 8; const p = writable(d, sp, 8); if (!p) { asStackFault(); d = fault(d); continue; } store<u64>(p, v); commit(p); store<u64>(RSP, sp); break; }
      case 146: d = branch(d, condition(0)); continue;
      case 147: d = branch(d, condition(1)); continue;
      case 148: d = branch(d, condition(2)); continue;
      case 149: d = branch(d, condition(3)); continue;
      case 150: d = branch(d, condition(4)); continue;
      case 151: d = branch(d, condition(5)); continue;
      case 152: d = branch(d, condition(6)); continue;
      case 153: d = branch(d, condition(7)); continue;
      case 154: d = branch(d, condition(8)); continue;
      case 155: d = branch(d, condition(9)); continue;
      case 156: d = branch(d, condition(10)); continue;
      case 157: d = branch(d, condition(11)); continue;
      case 158: d = branch(d, condition(12)); continue;
      case 159: d = branch(d, condition(13)); continue;
      case 160: d = branch(d, condition(14)); continue;
      case 161: d = branch(d, condition(15)); continue;
      case OP_SETCC: store<u8>(dstOf(d), condition(<u32>immOf(d)) ? 1 : 0); break;
      case OP_CMOV32: store<u64>(dstOf(d), <u64>(conditionOf(<u32>immOf(d)) ? load<u32>(srcOf(d)) : load<u32>(dstOf(d)))); break;
      case OP_CMOV64: if (conditionOf(<u32>immOf(d))) store<u64>(dstOf(d), load<u64>(srcOf(d))); break;
      case OP_CMOV32_M: { const p = readable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u64>(dstOf(d), <u64>(conditionOf(<u32>immOf(d)) ? load<u32>(p) : load<u32>(dstOf(d)))); break; }
      case OP_CMOV64_M: { const p = readable(d, ea(d), 8); if (!p) { d = fault(d); continue; } if (conditionOf(<u32>immOf(d))) store<u64>(dstOf(d), load<u64>(p)); break; }
      case 167: put<u8>(dstOf(d), inc<u8>(load<u8>(dstOf(d)))); break;
      case 168: put<u16>(dstOf(d), inc<u16>(load<u16>(dstOf(d)))); break;
      case 169: put<u32>(dstOf(d), inc<u32>(load<u32>(dstOf(d)))); break;
      case 170: put<u64>(dstOf(d), inc<u64>(load<u64>(dstOf(d)))); break;
      case 171: put<u8>(dstOf(d), dec<u8>(load<u8>(dstOf(d)))); break;
      case 172: put<u16>(dstOf(d), dec<u16>(load<u16>(dstOf(d)))); break;
      case 173: put<u32>(dstOf(d), dec<u32>(load<u32>(dstOf(d)))); break;
      case 174: put<u64>(dstOf(d), dec<u64>(load<u64>(dstOf(d)))); break;
      case 175: { const p = modifiable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, inc<u8>(load<u8>(p))); commit(p); break; }
      case 176: { const p = modifiable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, inc<u16>(load<u16>(p))); commit(p); break; }
      case 177: { const p = modifiable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, inc<u32>(load<u32>(p))); commit(p); break; }
      case 178: { const p = modifiable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, inc<u64>(load<u64>(p))); commit(p); break; }
      case 179: { const p = modifiable(d, ea(d), 1); if (!p) { d = fault(d); continue; } store<u8>(p, dec<u8>(load<u8>(p))); commit(p); break; }
      case 180: { const p = modifiable(d, ea(d), 2); if (!p) { d = fault(d); continue; } store<u16>(p, dec<u16>(load<u16>(p))); commit(p); break; }
      case 181: { const p = modifiable(d, ea(d), 4); if (!p) { d = fault(d); continue; } store<u32>(p, dec<u32>(load<u32>(p))); commit(p); break; }
      case 182: { const p = modifiable(d, ea(d), 8); if (!p) { d = fault(d); continue; } store<u64>(p, dec<u64>(load<u64>(p))); commit(p); break; }
      case 183: put<u32>(dstOf(d), shl<u32>(load<u32>(dstOf(d)), <u32>immOf(d))); break;
      case 184: put<u64>(dstOf(d), shl<u64>(load<u64>(dstOf(d)), <u64>immOf(d))); break;
      case 185: put<u32>(dstOf(d), shr<u32>(load<u32>(dstOf(d)), <u32>immOf(d))); break;
      case 186: put<u64>(dstOf(d), shr<u64>(load<u64>(dstOf(d)), <u64>immOf(d))); break;
      case 187: put<u32>(dstOf(d), sar<u32>(load<u32>(dstOf(d)), <u32>immOf(d))); break;
      case 188: put<u64>(dstOf(d), sar<u64>(load<u64>(dstOf(d)), <u64>immOf(d))); break;
      case 189: put<u32>(dstOf(d), ~load<u32>(dstOf(d))); break;
      case 190: put<u64>(dstOf(d), ~load<u64>(dstOf(d))); break;
      case 191: put<u32>(dstOf(d), sub<u32>(0, load<u32>(dstOf(d)))); break;
      case 192: put<u64>(dstOf(d), sub<u64>(0, load<u64>(dstOf(d)))); break;
      case 193: multiplyTo<u32>(dstOf(d), <i64>load<i32>(dstOf(d)), <i64>load<i32>(srcOf(d))); break;
      case 194: multiplyTo<u64>(dstOf(d), load<i64>(dstOf(d)), load<i64>(srcOf(d))); break;
      case 195: multiplyTo<u32>(dstOf(d), <i64>load<i32>(srcOf(d)), immOf(d)); break;
      case 196: multiplyTo<u64>(dstOf(d), load<i64>(srcOf(d)), immOf(d)); break;
      case OP_NOP: break;
      case OP_NEXT: d = follow(d, endOf(d)); continue;
      case OP_DEAD: d = revisit(d); continue;
      case OP_STOP: return;
      case OP_EA64: store<u64>(EA, ea(d) + load<u64>(srcOf(d))); break;
      case OP_EA32: store<u64>(EA, segmented(ea(d) & 0xffffffff, load<u64>(srcOf(d)))); break;
      case OP_EA16: store<u64>(EA, segmented(ea(d) & 0xffff, load<u64>(srcOf(d)))); break;
      case OP_EA_IMM: store<u64>(EA, segmented(<u64>immOf(d), load<u64>(srcOf(d)))); break;
      case OP_LEAVE64: { const sp = load<u64>(RBP); const p = readable(d, sp, 8); if (!p) { asStackFault(); d = fault(d); continue; } store<u64>(RSP, sp + 8); store<u64>(RBP, load<u64>(p)); break; }
      case 206: setCarry((<u64>load<u32>(dstOf(d)) >> (<u64>load<u32>(srcOf(d)) & 31)) & 1); break;
      case 207: setCarry((<u64>load<u64>(dstOf(d)) >> (<u64>load<u64>(srcOf(d)) & 63)) & 1); break;
      case OP_MOVDQU_RM: { if (load<u32>(SSE_BLOCKED)) { d = blocked(d); continue; } const p = readable(d, ea(d), 16); if (!p) { d = fault(d); continue; } v128.store(dstOf(d), v128.load(p)); break; }
      case OP_MOVDQU_MR: { if (load<u32>(SSE_BLOCKED)) { d = blocked(d); continue; } const p = writable(d, ea(d), 16); if (!p) { d = fault(d); continue; } v128.store(p, v128.load(srcOf(d))); commit(p); break; }
      case OP_MOVDQA_RM: { if (load<u32>(SSE_BLOCKED)) { d = blocked(d); continue; } const va = ea(d); const p = va & 15 ? raise(GP, 0) : readable(d, va, 16); if (!p) { d = fault(d); continue; } v128.store(dstOf(d), v128.load(p)); break; }
      case OP_MOVDQA_MR: { if (load<u32>(SSE_BLOCKED)) { d = blocked(d); continue; } const va = ea(d); const p = va & 15 ? raise(GP, 0) : writable(d, va, 16); if (!p) { d = fault(d); continue; } v128.store(p, v128.load(srcOf(d))); commit(p); break; }
      case OP_MOVDQA_RR: { if (load<u32>(SSE_BLOCKED)) { d = blocked(d); continue; } v128.store(dstOf(d), v128.load(srcOf(d))); break; }
      case OP_SPLIT: d = revisit(d); continue;
      case 214: cmp<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 215: cmp<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 216: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, a < b); continue; }
      case 217: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, a >= b); continue; }
      case 218: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, a == b); continue; }
      case 219: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, a != b); continue; }
      case 220: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, a <= b); continue; }
      case 221: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, a > b); continue; }
      case 222: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, <i64>(a - b) < 0); continue; }
      case 223: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, <i64>(a - b) >= 0); continue; }
      case 224: cmp<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 225: cmp<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 226: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, <i64>a < <i64>b); continue; }
      case 227: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, <i64>a >= <i64>b); continue; }
      case 228: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, <i64>a <= <i64>b); continue; }
      case 229: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); cmp<u64>(a, b); d = branch(d + RECORD, <i64>a > <i64>b); continue; }
      case 230: cmp<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 231: cmp<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 232: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, a < b); continue; }
      case 233: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, a >= b); continue; }
      case 234: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, a == b); continue; }
      case 235: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, a != b); continue; }
      case 236: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, a <= b); continue; }
      case 237: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, a > b); continue; }
      case 238: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, <i32>(a - b) < 0); continue; }
      case 239: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, <i32>(a - b) >= 0); continue; }
      case 240: cmp<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 241: cmp<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 242: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, <i32>a < <i32>b); continue; }
      case 243: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, <i32>a >= <i32>b); continue; }
      case 244: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, <i32>a <= <i32>b); continue; }
      case 245: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); cmp<u32>(a, b); d = branch(d + RECORD, <i32>a > <i32>b); continue; }
      case 246: test<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 247: test<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 248: test<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 249: test<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 250: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); test<u64>(a, b); d = branch(d + RECORD, (a & b) == 0); continue; }
      case 251: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); test<u64>(a, b); d = branch(d + RECORD, (a & b) != 0); continue; }
      case 252: test<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 253: test<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 254: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); test<u64>(a, b); d = branch(d + RECORD, <i64>(a & b) < 0); continue; }
      case 255: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); test<u64>(a, b); d = branch(d + RECORD, <i64>(a & b) >= 0); continue; }
      case 256: test<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 257: test<u64>(load<u64>(dstOf(d)), load<u64>(srcOf(d))); break;
      case 258: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); test<u64>(a, b); d = branch(d + RECORD, <i64>(a & b) < 0); continue; }
      case 259: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); test<u64>(a, b); d = branch(d + RECORD, <i64>(a & b) >= 0); continue; }
      case 260: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); test<u64>(a, b); d = branch(d + RECORD, <i64>(a & b) <= 0); continue; }
      case 261: { const a = load<u64>(dstOf(d)); const b = load<u64>(srcOf(d)); test<u64>(a, b); d = branch(d + RECORD, <i64>(a & b) > 0); continue; }
      case 262: test<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 263: test<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 264: test<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 265: test<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 266: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); test<u32>(a, b); d = branch(d + RECORD, (a & b) == 0); continue; }
      case 267: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); test<u32>(a, b); d = branch(d + RECORD, (a & b) != 0); continue; }
      case 268: test<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 269: test<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 270: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); test<u32>(a, b); d = branch(d + RECORD, <i32>(a & b) < 0); continue; }
      case 271: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); test<u32>(a, b); d = branch(d + RECORD, <i32>(a & b) >= 0); continue; }
      case 272: test<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 273: test<u32>(load<u32>(dstOf(d)), load<u32>(srcOf(d))); break;
      case 274: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); test<u32>(a, b); d = branch(d + RECORD, <i32>(a & b) < 0); continue; }
      case 275: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); test<u32>(a, b); d = branch(d + RECORD, <i32>(a & b) >= 0); continue; }
      case 276: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); test<u32>(a, b); d = branch(d + RECORD, <i32>(a & b) <= 0); continue; }
      case 277: { const a = load<u32>(dstOf(d)); const b = load<u32>(srcOf(d)); test<u32>(a, b); d = branch(d + RECORD, <i32>(a & b) > 0); continue; }
      case OP_EA32_SEG: case OP_EA16_SEG: case OP_EA_IMM_SEG: if (!prefixAddress(d)) { d = fault(d); continue; } break;
      case 281: put<u32>(dstOf(d), rol<u32>(load<u32>(dstOf(d)), <u32>immOf(d))); break;
      case 282: put<u64>(dstOf(d), rol<u64>(load<u64>(dstOf(d)), <u64>immOf(d))); break;
      case 283: put<u32>(dstOf(d), ror<u32>(load<u32>(dstOf(d)), <u32>immOf(d))); break;
      case 284: put<u64>(dstOf(d), ror<u64>(load<u64>(dstOf(d)), <u64>immOf(d))); break;
      case 285: { const n = load<u8>(RCX) & 31; put<u32>(dstOf(d), n ? shl<u32>(load<u32>(dstOf(d)), <u32>n) : load<u32>(dstOf(d))); break; }
      case 286: { const n = load<u8>(RCX) & 63; put<u64>(dstOf(d), n ? shl<u64>(load<u64>(dstOf(d)), <u64>n) : load<u64>(dstOf(d))); break; }
      case 287: { const n = load<u8>(RCX) & 31; put<u32>(dstOf(d), n ? shr<u32>(load<u32>(dstOf(d)), <u32>n) : load<u32>(dstOf(d))); break; }
      case 288: { const n = load<u8>(RCX) & 63; put<u64>(dstOf(d), n ? shr<u64>(load<u64>(dstOf(d)), <u64>n) : load<u64>(dstOf(d))); break; }
      case 289: { const n = load<u8>(RCX) & 31; put<u32>(dstOf(d), n ? sar<u32>(load<u32>(dstOf(d)), <u32>n) : load<u32>(dstOf(d))); break; }
      case 290: { const n = load<u8>(RCX) & 63; put<u64>(dstOf(d), n ? sar<u64>(load<u64>(dstOf(d)), <u64>n) : load<u64>(dstOf(d))); break; }
      case 291: store<i64>(RAX, <i64>load<i32>(RAX)); break;
      case 292: store<u64>(RAX, <u64><u32><i32>load<i16>(RAX)); break;
      case 293: store<u64>(RDX, <u64><u32>(load<i32>(RAX) >> 31)); break;
      case 294: store<i64>(RDX, load<i64>(RAX) >> 63); break;
      case 295: store<u64>(dstOf(d), <u64>bswap<u32>(load<u32>(dstOf(d)))); break;
      case 296: store<u64>(dstOf(d), bswap<u64>(load<u64>(dstOf(d)))); break;
      case 297: put<u32>(dstOf(d), load<u32>(dstOf(d)) + load<u32>(srcOf(d))); break;
      case 298: put<u64>(dstOf(d), load<u64>(dstOf(d)) + load<u64>(srcOf(d))); break;
      case 299: put<u32>(dstOf(d), load<u32>(dstOf(d)) | load<u32>(srcOf(d))); break;
      case 300: put<u64>(dstOf(d), load<u64>(dstOf(d)) | load<u64>(srcOf(d))); break;
      case 301: put<u32>(dstOf(d), load<u32>(dstOf(d)) & load<u32>(srcOf(d))); break;
      case 302: put<u64>(dstOf(d), load<u64>(dstOf(d)) & load<u64>(srcOf(d))); break;
      case 303: put<u32>(dstOf(d), load<u32>(dstOf(d)) - load<u32>(srcOf(d))); break;
      case 304: put<u64>(dstOf(d), load<u64>(dstOf(d)) - load<u64>(srcOf(d))); break;
      case 305: put<u32>(dstOf(d), load<u32>(dstOf(d)) ^ load<u32>(srcOf(d))); break;
      case 306: put<u64>(dstOf(d), load<u64>(dstOf(d)) ^ load<u64>(srcOf(d))); break;
      case 307: put<u32>(dstOf(d), load<u32>(dstOf(d)) << <u32>immOf(d)); break;
      case 308: put<u64>(dstOf(d), load<u64>(dstOf(d)) << <u64>immOf(d)); break;
      case 309: put<u32>(dstOf(d), load<u32>(dstOf(d)) >> <u32>immOf(d)); break;
      case 310: put<u64>(dstOf(d), load<u64>(dstOf(d)) >> <u64>immOf(d)); break;
      case 311: put<u32>(dstOf(d), <u32>(load<i32>(dstOf(d)) >> <i32>immOf(d))); break;
      case 312: put<u64>(dstOf(d), <u64>(load<i64>(dstOf(d)) >> <i64>immOf(d))); break;
      case 313: put<u32>(dstOf(d), rotl<u32>(load<u32>(dstOf(d)), <u32>immOf(d))); break;
      case 314: put<u64>(dstOf(d), rotl<u64>(load<u64>(dstOf(d)), <u64>immOf(d))); break;
      case 315: put<u32>(dstOf(d), rotr<u32>(load<u32>(dstOf(d)), <u32>immOf(d))); break;
      case 316: put<u64>(dstOf(d), rotr<u64>(load<u64>(dstOf(d)), <u64>immOf(d))); break;
      default: {
        const r = slow(d);
        if (r == NEXT) break;
        d = after(d, r);
        continue;
      }
    }
    d += RECORD;
  }
}
