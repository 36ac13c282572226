// Stacks of any width. Multi-word pushes and pops move a cursor and set RSP only once nothing can fault any more.
import { SEG_ATTR, SEG_BASE } from "./fields";
import { loadAt, storeAt } from "./mmu";
import { asStackFault, isFaulted } from "./faults";
import { ATTR_DB } from "./segments";
import { MODE_64, RSP, SS, mode, segPtr } from "./state";

/** Stack pointer of the operation in progress. */
export let cursor: u64 = 0;
let mask: u64 = 0;
let base: u64 = 0;

export function stackMask(): u64 {
  if (mode() == MODE_64) return ~(<u64>0);
  return load<u32>(segPtr(SS), SEG_ATTR) & ATTR_DB ? 0xffffffff : 0xffff;
}

export function beginStack(): void {
  mask = stackMask();
  base = mode() == MODE_64 ? 0 : load<u64>(segPtr(SS), SEG_BASE);
  cursor = load<u64>(RSP) & mask;
}

/** A stack that is not the current one. */
export function beginStackAt(sp: u64, segmentBase: u64, pointerMask: u64): void {
  mask = pointerMask;
  base = segmentBase;
  cursor = sp & mask;
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
  const done = size == 3 ? storeAt<u64>(linear(), value) : size == 2 ? storeAt<u32>(linear(), <u32>value) : storeAt<u16>(linear(), <u16>value);
  if (!done) asStackFault();
  return done;
}

export function popValue(size: u32): u64 {
  const at = linear();
  const v: u64 = size == 3 ? loadAt<u64>(at) : size == 2 ? <u64>loadAt<u32>(at) : <u64>loadAt<u16>(at);
  if (isFaulted()) asStackFault();
  else cursor = (cursor + (<u64>1 << size)) & mask;
  return v;
}
