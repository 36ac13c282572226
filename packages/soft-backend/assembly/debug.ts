// Breakpoints of the guest's debug registers (SDM 3B §17.2–17.3). Nothing here runs unless DR7 enables something.
import { ATTENTION, DR, RFLAGS, SHADOW } from "../src/cpu/layout";
import { DB, raise } from "./faults";
import { DEBUG_HITS } from "./fields";
import { SHADOW_STACK } from "./interrupts";
import { current, flushTlb } from "./mmu";
import { OP_SPLIT } from "./ops";
import { CR4_DE, RECORD, RF, cr4, remOf } from "./state";

export const DR6: usize = DR + 32;
export const DR7: usize = DR + 40;
export const DR6_BD: u32 = 0x2000;
export const DR6_BS: u32 = 0x4000;
const DR6_TRAPS: u64 = 0xf;
export const DR7_GD: u64 = 0x2000;

// The registers, one bit each, that stop at code, at writes, at reads and writes, at ports.
let codeMask: u32 = 0;
let writeMask: u32 = 0;
let accessMask: u32 = 0;
let portMask: u32 = 0;

/** Some register stops at code. */
export let hasBreakpoints: bool = false;
/** Some register stops at data. */
export let hasWatchpoints: bool = false;

/** Follows a change of the debug registers or CR4.DE. */
export function syncDebug(): void {
  const hadAny = hasBreakpoints || hasWatchpoints;
  const control = load<u32>(DR7);
  codeMask = 0; writeMask = 0; accessMask = 0; portMask = 0;
  for (let i: u32 = 0; i < 4; i++) {
    if (!((control >> (2 * i)) & 3)) continue;
    const bit: u32 = 1 << i;
    switch ((control >> (16 + 4 * i)) & 3) {
      case 0: codeMask |= bit; break;
      case 1: writeMask |= bit; break;
      case 2: if (cr4() & CR4_DE) portMask |= bit; break;
      default: accessMask |= bit; writeMask |= bit; break;
    }
  }
  hasBreakpoints = codeMask != 0;
  hasWatchpoints = writeMask != 0;
  if (hadAny || hasBreakpoints || hasWatchpoints) flushTlb();
}

/** Bytes register `i` covers: LEN 0, 1, 2, 3 are 1, 2, 8, 4. */
function coverOf(i: u32): u64 {
  switch ((load<u32>(DR7) >> (18 + 4 * i)) & 3) {
    case 0: return 1;
    case 1: return 2;
    case 2: return 8;
    default: return 4;
  }
}

function hitsOf(mask: u32, from: u64, size: u64): u32 {
  let hits: u32 = 0;
  for (let i: u32 = 0; i < 4; i++) {
    if (!((mask >> i) & 1)) continue;
    const cover = coverOf(i);
    const start = load<u64>(DR + (i << 3)) & ~(cover - 1);
    if (from < start + cover && start < from + size) hits |= 1 << i;
  }
  return hits;
}

/** Whether the page of `va` has a watchpoint: its data must not be reached by the TLB. */
export function isWatchedPage(va: u64): bool { return hitsOf(writeMask, va & ~0xfff, 0x1000) != 0; }

/** The running instruction is followed by #DB. */
function trap(hits: u32): void {
  if (!hits) return;
  store<u32>(DEBUG_HITS, load<u32>(DEBUG_HITS) | hits);
  store<u32>(ATTENTION, load<u32>(ATTENTION) | 1);
  if (current && remOf(current) > 1) store<u16>(current + RECORD, <u16>OP_SPLIT);
}

export function watchData(va: u64, size: u32, isWrite: bool): void { trap(hitsOf(isWrite ? writeMask : accessMask, va, size)); }
export function watchPort(port: u32, size: u32): void { if (portMask) trap(hitsOf(portMask, port, size)); }

/** The #DB raised last is that of an access to a debug register. */
export let isGeneralDetect: bool = false;

/** Raises #DB for the conditions in `bits` of DR6. */
export function raiseDebug(bits: u32): void {
  store<u64>(DR6, (load<u64>(DR6) & ~DR6_TRAPS) | bits);
  store<u64>(DR7, load<u64>(DR7) & ~DR7_GD);
  isGeneralDetect = (bits & DR6_BD) != 0;
  raise(DB, 0);
}

/** Whether RF or a load of SS lets the next instruction pass its breakpoint. */
function isResuming(): bool { return (load<u32>(RFLAGS) & RF) != 0 || load<u32>(SHADOW) == SHADOW_STACK; }

/** Breakpoints at the instruction at `va`. */
export function breakpointsAt(va: u64): u32 { return hitsOf(codeMask, va, 1); }

/** Raises #DB if the instruction at `va`, about to run, has a breakpoint. */
export function stopsAt(va: u64): bool {
  const hits = breakpointsAt(va);
  if (!hits || isResuming()) return false;
  raiseDebug(hits);
  return true;
}
