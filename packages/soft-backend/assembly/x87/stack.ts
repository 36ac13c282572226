/** The x87 register stack, status word and exceptions in the state block (SDM 1 §8.1, §8.4, §8.5). */
import { FCW, FPR, FSW, FTAG } from "../../src/cpu/layout";
import { DE, IE, OE, PE, UE, ZE, sfFlags, sfMasks, sfRoundedUp } from "../softfloat/environment";
import { f80SetDefaultNaN, xSe, xSig } from "../softfloat/f80";

export const C0: u32 = 0x100;
export const C1: u32 = 0x200;
export const C2: u32 = 0x400;
export const C3: u32 = 0x4000;
const STACK_FAULT: u32 = 0x40;
const ERROR_SUMMARY: u32 = 0x80;
const BUSY: u32 = 0x8000;

export function status(): u32 {
  return load<u16>(FSW);
}

export function setStatus(fsw: u32): void {
  store<u16>(FSW, <u16>fsw);
}

export function control(): u32 {
  return load<u16>(FCW);
}

export function setCodes(codes: u32): void {
  setStatus((status() & ~(C0 | C1 | C2 | C3)) | codes);
}

export function setC1(on: bool): void {
  setStatus(on ? status() | C1 : status() & ~C1);
}

export function setC2(on: bool): void {
  setStatus(on ? status() | C2 : status() & ~C2);
}

/** ES and B follow from the flags and the masks. */
export function updateSummary(): void {
  const fsw = status();
  if ((fsw & ~control() & 0x3f) != 0) setStatus(fsw | ERROR_SUMMARY | BUSY);
  else setStatus(fsw & ~(ERROR_SUMMARY | BUSY));
}

/** An unmasked exception waits to be reported. */
export function pending(): bool {
  return (status() & ERROR_SUMMARY) != 0;
}

function physical(i: u32): u32 {
  return ((status() >> 11) + i) & 7;
}

/** Address of ST(i). */
export function address(i: u32): usize {
  return FPR + (physical(i) << 4);
}

export function isEmpty(i: u32): bool {
  return ((u32(load<u8>(FTAG)) >> physical(i)) & 1) == 0;
}

export function significand(i: u32): u64 {
  return load<u64>(address(i));
}

export function signExponent(i: u32): u32 {
  return load<u16>(address(i), 8);
}

/** Writes ST(i) and marks it as full. */
export function write(i: u32, sig: u64, se: u32): void {
  const at = address(i);
  store<u64>(at, sig);
  store<u16>(at, <u16>se, 8);
  store<u8>(FTAG, <u8>(u32(load<u8>(FTAG)) | (1 << physical(i))));
}

/** Writes the last f80 result to ST(i). */
export function writeResult(i: u32): void {
  write(i, xSig, xSe);
}

export function free(i: u32): void {
  store<u8>(FTAG, <u8>(u32(load<u8>(FTAG)) & ~(1 << physical(i))));
}

/** Moves TOP by `delta`. */
export function rotate(delta: u32): void {
  const fsw = status();
  setStatus((fsw & ~0x3800) | ((((fsw >> 11) + delta) & 7) << 11));
}

export function pop(): void {
  free(0);
  rotate(1);
}

/** Pushes the last f80 result. */
export function pushResult(): void {
  rotate(7);
  write(0, xSig, xSe);
}

/**
 * Reports #IS (SDM 1 §8.5.1.1): overflow or underflow of the stack. True if it is masked: then the default NaN is the
 * last f80 result, for the caller to use as its response.
 */
export function stackFault(overflow: bool): bool {
  setStatus((status() & ~C1) | IE | STACK_FAULT | (overflow ? C1 : 0));
  updateSummary();
  f80SetDefaultNaN();
  return (sfMasks & IE) != 0;
}

/** Reports the flags of the operation, C1 from its rounding. True: the destination register is to be written. */
export function report(): bool {
  setStatus((status() & ~C1) | (sfRoundedUp ? C1 : 0) | sfFlags);
  updateSummary();
  return (sfFlags & ~sfMasks & (IE | DE | ZE)) == 0;
}

/** As `report`, for a destination in memory: unmasked overflow and underflow leave it alone, and PE and C1 too. */
export function reportStore(): bool {
  if ((sfFlags & ~sfMasks & (OE | UE)) == 0) return report();
  setStatus((status() & ~C1) | (sfFlags & ~PE));
  updateSummary();
  return false;
}

/** As `report`, but leaves the condition codes alone. */
export function reportFlags(): bool {
  setStatus(status() | sfFlags);
  updateSummary();
  return (sfFlags & ~sfMasks & (IE | DE | ZE)) == 0;
}
