// Stacks of any width. Multi-word pushes and pops move a cursor and set RSP only once nothing can fault any more.
import { SEG_ATTR, SEG_BASE, SEG_LIMIT } from "./fields";
import { loadAt, storeAt } from "./mmu";
import { SS_FAULT, asStackFault, isFaulted, raise } from "./faults";
import { isWithin } from "./segment-checks";
import { ATTR_DB, ATTR_UNUSABLE } from "./segments";
import { MODE_64, MODE_REAL, RSP, SS, mode, segPtr } from "./state";

/** Stack pointer of the operation in progress. */
export let cursor: u64 = 0;
let mask: u64 = 0;
let base: u64 = 0;
// The segment's limit, checked outside 64-bit mode; the error code of #SS.
let isLimited: bool = false;
let attributes: u32 = 0;
let limit: u32 = 0;
let error: u32 = 0;

export function stackMask(): u64 {
  if (mode() == MODE_64) return ~(<u64>0);
  return load<u32>(segPtr(SS), SEG_ATTR) & ATTR_DB ? 0xffffffff : 0xffff;
}

export function beginStack(): void {
  mask = stackMask();
  base = mode() == MODE_64 ? 0 : load<u64>(segPtr(SS), SEG_BASE);
  cursor = load<u64>(RSP) & mask;
  isLimited = mode() != MODE_64;
  if (isLimited) limitStack(load<u32>(segPtr(SS), SEG_ATTR), load<u32>(segPtr(SS), SEG_LIMIT), 0);
}

/** A stack that is not the current one. */
export function beginStackAt(sp: u64, segmentBase: u64, pointerMask: u64): void {
  mask = pointerMask;
  base = segmentBase;
  cursor = sp & mask;
  isLimited = false;
}

/** Checks what follows against a segment; an error code of #SS other than 0 names one that is not yet in SS. */
export function limitStack(segmentAttributes: u32, segmentLimit: u32, errorCode: u32): void {
  isLimited = true;
  attributes = segmentAttributes;
  limit = segmentLimit;
  error = errorCode;
}

function isInStack(size: u32): bool {
  if (!isLimited || ((mode() == MODE_REAL || !(attributes & ATTR_UNUSABLE)) && isWithin(attributes, limit, <u32>cursor, size))) return true;
  raise(SS_FAULT, error);
  return false;
}

export function endStack(): void {
  // Bits above a 16-bit stack pointer stay as they are; a 32-bit one zero-extends.
  if (mask == 0xffff) store<u16>(RSP, <u16>cursor);
  else store<u64>(RSP, cursor);
}

export function moveCursor(bytes: u64): void { cursor = (cursor + bytes) & mask; }

function linear(): u64 { return mask == ~(<u64>0) ? cursor : (base + cursor) & 0xffffffff; }

/** Size: 1 = 16, 2 = 32, 3 = 64 bits. False: a fault is raised. */
export function pushValue(value: u64, size: u32): bool {
  cursor = (cursor - (<u64>1 << size)) & mask;
  if (!isInStack(1 << size)) return false;
  const done = size == 3 ? storeAt<u64>(linear(), value) : size == 2 ? storeAt<u32>(linear(), <u32>value) : storeAt<u16>(linear(), <u16>value);
  if (!done) asStackFault();
  return done;
}

export function popValue(size: u32): u64 {
  if (!isInStack(1 << size)) return 0;
  const at = linear();
  const v: u64 = size == 3 ? loadAt<u64>(at) : size == 2 ? <u64>loadAt<u32>(at) : <u64>loadAt<u16>(at);
  if (isFaulted()) asStackFault();
  else cursor = (cursor + (<u64>1 << size)) & mask;
  return v;
}
