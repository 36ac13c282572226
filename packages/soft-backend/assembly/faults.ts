// The exception an instruction has run into and not yet taken. A handler that meets one changes nothing more and
// returns; the run loop then delivers it (interrupts.ts).

export const DE: i32 = 0;
export const DB: i32 = 1;
export const NMI: i32 = 2;
export const OF_TRAP: i32 = 4;
export const UD: i32 = 6;
export const NM: i32 = 7;
export const DOUBLE_FAULT: i32 = 8;
export const TS_FAULT: i32 = 10;
export const NP: i32 = 11;
export const SS_FAULT: i32 = 12;
export const GP: i32 = 13;
export const PAGE_FAULT: i32 = 14;
export const MF: i32 = 16;
export const AC_FAULT: i32 = 17;
/** Not an exception: the core lacks what comes next (error: LACKS_*), the run must end. */
export const UNIMPLEMENTED: i32 = 0x100;
export const NONE: i32 = -1;

export let faultVector: i32 = NONE;
export let faultError: u32 = 0;

/** Notes an exception. Returns 0, the pointer no access can have. */
export function raise(vector: i32, error: u32): usize {
  faultVector = vector;
  faultError = error;
  return 0;
}

/** What is #GP for other accesses, a non-canonical address, is #SS for the stack's (SDM 3A §6.15). */
export function asStackFault(): void { if (faultVector == GP) faultVector = SS_FAULT; }

export function clearFault(): void { faultVector = NONE; }
// @ts-ignore: decorator
@inline export function isFaulted(): bool { return faultVector != NONE; }

/** Vectors that push an error code (SDM 3A §6.13). */
export function hasErrorCode(vector: i32): bool {
  return vector == DOUBLE_FAULT || (vector >= TS_FAULT && vector <= PAGE_FAULT) || vector == AC_FAULT;
}
