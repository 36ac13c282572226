import { Reg } from "./spec.ts";

// The register page of a local APIC as one word per 16 bytes, and its 256-bit banks ISR, TMR and IRR
// (SDM 3A §11.8.4): eight words each, one bit a vector.

export function setVector(words: Uint32Array, bank: number, vector: number, value: boolean): void {
  const at = (bank >> 4) + (vector >> 5);
  const bit = 1 << (vector & 31);
  const was = words[at] ?? 0;
  words[at] = value ? was | bit : was & ~bit;
}

export function hasVector(words: Uint32Array, bank: number, vector: number): boolean {
  return (((words[(bank >> 4) + (vector >> 5)] ?? 0) >>> (vector & 31)) & 1) !== 0;
}

/** Highest vector set in a bank, or −1. */
export function highestVector(words: Uint32Array, bank: number): number {
  for (let word = 7; word >= 0; word--) {
    const bits = words[(bank >> 4) + word] ?? 0;
    if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
  }
  return -1;
}

/** Whether an offset is in one of the 256-bit banks. */
const isWordOf = (offset: number, bank: number): boolean => offset >= bank && offset < bank + 0x80;

/** Whether a register of the page can be read (SDM 3A, table 11-1). */
export function isReadable(offset: number): boolean {
  if (isWordOf(offset, Reg.ISR) || isWordOf(offset, Reg.TMR) || isWordOf(offset, Reg.IRR)) return true;
  if (offset >= Reg.LVT_TIMER && offset <= Reg.TIMER_CURRENT) return true;
  switch (offset) {
    case Reg.ID:
    case Reg.VERSION:
    case Reg.TPR:
    case Reg.APR:
    case Reg.PPR:
    case Reg.RRD:
    case Reg.LDR:
    case Reg.DFR:
    case Reg.SVR:
    case Reg.ESR:
    case Reg.LVT_CMCI:
    case Reg.ICR:
    case Reg.ICR_HIGH:
    case Reg.TIMER_DIVIDE:
      return true;
    default:
      return false;
  }
}
