/**
 * The floating-point environment: what MXCSR, or the x87 control word, says for the operation at hand, and what the
 * operation reports back. The caller sets it before and reads `sfFlags` after (SDM 1 §4.9, §8.5, §11.5).
 */

/** Exception flags, in the bit order that MXCSR and the x87 status word share. */
export const IE: u32 = 1;
export const DE: u32 = 2;
export const ZE: u32 = 4;
export const OE: u32 = 8;
export const UE: u32 = 16;
export const PE: u32 = 32;

/** Rounding control as encoded in MXCSR.RC and FCW.RC. */
export const NEAREST: u32 = 0;
export const DOWN: u32 = 1;
export const UP: u32 = 2;
export const ZERO: u32 = 3;

/** Exceptions raised since `sfClearFlags`. `sfFlags & ~sfMasks` non-zero: an unmasked exception is due. */
export let sfFlags: u32 = 0;
/** Exceptions that are masked (bit set: masked), in flag order. */
export let sfMasks: u32 = 0x3f;
export let sfRounding: u32 = NEAREST;
/** Denormal operands count as zeros (MXCSR.DAZ). f32 and f64 only. */
export let sfDaz: bool = false;
/** Tiny results become zeros while underflow is masked (MXCSR.FTZ). f32 and f64 only. */
export let sfFtz: bool = false;
/** Bits of significand to which f80 arithmetic rounds: 24, 53 or 64 (FCW.PC). */
export let sfPrecision: u32 = 64;
/** The last rounding increased the magnitude: x87 C1. */
export let sfRoundedUp: bool = false;

/** Sets the environment of SSE operations from MXCSR. Does not touch `sfFlags`. */
export function sfUseMxcsr(mxcsr: u32): void {
  sfMasks = (mxcsr >> 7) & 0x3f;
  sfRounding = (mxcsr >> 13) & 3;
  sfDaz = (mxcsr & 0x40) != 0;
  sfFtz = (mxcsr & 0x8000) != 0;
}

/** Sets the environment of x87 operations from the control word, and clears the flags. */
export function sfUseControlWord(fcw: u32): void {
  sfMasks = fcw & 0x3f;
  sfRounding = (fcw >> 10) & 3;
  const pc = (fcw >> 8) & 3;
  sfPrecision = pc == 0 ? 24 : pc == 2 ? 53 : 64;
  sfDaz = false;
  sfFtz = false;
  sfFlags = 0;
  sfRoundedUp = false;
}

/** Overrides the precision of f80 arithmetic. */
export function sfSetPrecision(bits: u32): void {
  sfPrecision = bits;
}

export function sfClearFlags(): void {
  sfFlags = 0;
}

export function sfRaise(flags: u32): void {
  sfFlags |= flags;
}

export function sfSetRoundedUp(up: bool): void {
  sfRoundedUp = up;
}

/** An unmasked exception that is found before the operation is computed: there will be no result. */
export function sfStopped(): bool {
  return (sfFlags & ~sfMasks & (IE | DE | ZE)) != 0;
}
