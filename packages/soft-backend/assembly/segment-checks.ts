// What segmentation allows an access outside 64-bit mode (SDM 3A §5.3–5.5).
import { EA, SEG, SEG_SIZE } from "../src/cpu/layout";
import { LATER, WRITES } from "./access";
import { GP, SS_FAULT, raise } from "./faults";
import { SEG_ATTR, SEG_BASE, SEG_LIMIT, SSE_BLOCKED, X87_BLOCKED } from "./fields";
import { OP_EA16_SEG, OP_EA32_SEG, OP_MOVDQA_MR, OP_MOVDQU_RM, S_SSE, S_X87, SLOW } from "./ops";
import { ATTR_DB, ATTR_UNUSABLE } from "./segments";
import { CS, MODE_64, MODE_REAL, RECORD, SS, dstOf, ea, immOf, mode, opOf, segPtr, srcOf } from "./state";

/** Whether `[offset, offset + size)` lies within a segment of these attributes and this limit. */
export function isWithin(attributes: u32, limit: u32, offset: u32, size: u32): bool {
  const last = <u64>offset + size - 1;
  if ((attributes & 0xc) == 4) return offset > limit && last <= (attributes & ATTR_DB ? 0xffffffff : 0xffff); // expand-down
  return last <= <u64>limit || limit == 0xffffffff;
}

/** Whether the segment whose registers are at `segment` allows the access. Only limits count in real mode. */
export function isAllowed(segment: usize, offset: u32, size: u32, isWrite: bool): bool {
  const attributes = load<u32>(segment, SEG_ATTR);
  if (mode() != MODE_REAL) {
    if (attributes & ATTR_UNUSABLE) return false;
    // Types: bit 3 code, bit 1 writable data or readable code.
    if (isWrite ? (attributes & 0xa) != 2 : (attributes & 0xa) == 8) return false;
  }
  return isWithin(attributes, load<u32>(segment, SEG_LIMIT), offset, size);
}

/** Linear address of an access by way of a segment; `raised` says whether it may not be. */
export let raised: bool = false;
export function segmentAddress(segment: usize, offset: u64, size: u32, isWrite: bool): u64 {
  raised = mode() != MODE_64 && !isAllowed(segment, <u32>offset, size, isWrite);
  if (raised) raise(segment == SEG + SS * SEG_SIZE ? SS_FAULT : GP, 0);
  const va = load<u64>(segment, SEG_BASE) + offset;
  return mode() == MODE_64 ? va : va & 0xffffffff;
}

/** An address that no segment check applies to. */
export function unsegmented(va: u64): u64 {
  raised = false;
  return va;
}

/** #NM and #UD of x87 and SSE instructions come before faults of their operands. */
function isBlocked(r: usize): bool {
  const op = opOf(r);
  if (op >= OP_MOVDQU_RM && op <= OP_MOVDQA_MR || op >> 2 == (SLOW >> 2) + S_SSE) return load<u32>(SSE_BLOCKED) != 0;
  return op >> 2 == (SLOW >> 2) + S_X87 && load<u32>(X87_BLOCKED) != 0;
}

/** The offset a checked prefix record computes. */
export function offsetOf(d: usize): u32 {
  const op = opOf(d);
  return op == OP_EA32_SEG ? <u32>ea(d) : op == OP_EA16_SEG ? <u32>ea(d) & 0xffff : <u32>immOf(d);
}

/** Executes a checked prefix record: EA ← linear address. False: a fault is raised. */
export function prefixAddress(d: usize): bool {
  if (<u32>dstOf(d) & LATER) return true;
  return checkedAddress(d);
}

export function checkedAddress(d: usize): bool {
  const access = <u32>dstOf(d);
  const segment = srcOf(d);
  const offset = offsetOf(d);
  const size = access & 0xffff;
  if (size && !isAllowed(segment, offset, size, (access & WRITES) != 0) && !isBlocked(d + RECORD)) {
    raise(segment == SEG + SS * SEG_SIZE ? SS_FAULT : GP, 0);
    return false;
  }
  store<u64>(EA, (load<u64>(segment, SEG_BASE) + offset) & 0xffffffff);
  return true;
}

/** Whether a near branch may go to `rip`; raises #GP. */
export function isBranchTarget(rip: u64): bool {
  if (mode() == MODE_64 || rip <= <u64>load<u32>(segPtr(CS), SEG_LIMIT)) return true;
  raise(GP, 0);
  return false;
}
