/** EFLAGS as FCMOVcc and FCOMI see them: the core's lazy flags. */
import { isCarry, isParity, isZero, setComparisonFlags } from "./flags";

export function flagCF(): bool { return isCarry(); }
export function flagZF(): bool { return isZero(); }
export function flagPF(): bool { return isParity(); }
/** Sets ZF, PF and CF; clears OF, SF and AF. */
export function setZPC(z: bool, p: bool, c: bool): void { setComparisonFlags(z, p, c, false, false); }
