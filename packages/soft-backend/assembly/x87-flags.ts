/**
 * EFLAGS as FCMOVcc and FCOMI see them. The core's lazy flags are behind these hooks; this stand-in works on
 * RFLAGS itself.
 */
import { RFLAGS } from "../src/cpu/layout";

const CF: u64 = 0x001;
const PF: u64 = 0x004;
const ZF: u64 = 0x040;
/** What FCOMI clears besides: OF, SF, AF (SDM 2A, FCOMI). */
const STATUS: u64 = 0x8d5;

export function flagCF(): bool {
  return (load<u64>(RFLAGS) & CF) != 0;
}

export function flagZF(): bool {
  return (load<u64>(RFLAGS) & ZF) != 0;
}

export function flagPF(): bool {
  return (load<u64>(RFLAGS) & PF) != 0;
}

/** Sets ZF, PF and CF; clears OF, SF and AF. */
export function setZPC(z: bool, p: bool, c: bool): void {
  const flags = load<u64>(RFLAGS) & ~STATUS;
  store<u64>(RFLAGS, flags | (z ? ZF : 0) | (p ? PF : 0) | (c ? CF : 0));
}
