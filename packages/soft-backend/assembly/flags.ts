// Status flags, computed only when somebody asks.
//
// The last flag-setting operation leaves its kind, its result and one operand, both shifted left so that the
// operand's sign bit is bit 63: carry, zero, sign and overflow then need no operand size.
import { CC_DST, CC_OP, CC_SRC, RFLAGS } from "../src/cpu/layout";
import { AF, CF, OF, PF, SF, STATUS_FLAGS, ZF } from "./state";

/** CC_SRC holds all six status flags. */
export const CC_FLAGS: u32 = 0;
/** ZF, SF, PF come from the result, CF, AF, OF from CC_SRC. Kinds from here carry the shift in the low byte. */
export const CC_RESULT: u32 = 0x100;
export const CC_ADD: u32 = 0x200;
export const CC_SUB: u32 = 0x300;

/** The left shift that aligns a T. */
// @ts-ignore: decorator
@inline export function align<T>(): u64 { return 64 - 8 * sizeof<T>(); }

// @ts-ignore: decorator
@inline export function setFlagsOf<T>(kind: u32, result: T, src: T): void {
  store<u32>(CC_OP, kind | <u32>align<T>());
  store<u64>(CC_DST, <u64>result << align<T>());
  store<u64>(CC_SRC, <u64>src << align<T>());
}

/** Flags of a result, with CF, AF and OF given as their bits. */
// @ts-ignore: decorator
@inline export function setResultFlags<T>(result: T, bits: u32): void {
  store<u32>(CC_OP, CC_RESULT | <u32>align<T>());
  store<u64>(CC_DST, <u64>result << align<T>());
  store<u64>(CC_SRC, <u64>bits);
}

// @ts-ignore: decorator
@inline export function setStatusFlags(bits: u32): void {
  store<u32>(CC_OP, CC_FLAGS);
  store<u64>(CC_SRC, <u64>(bits & STATUS_FLAGS));
}

// @ts-ignore: decorator
@inline export function isCarry(): bool {
  const kind = load<u32>(CC_OP) & 0xf00;
  const b = load<u64>(CC_SRC);
  if (kind == CC_SUB) return load<u64>(CC_DST) + b < b;
  if (kind == CC_ADD) return load<u64>(CC_DST) < b;
  return (b & CF) != 0;
}

// @ts-ignore: decorator
@inline export function isZero(): bool {
  if (load<u32>(CC_OP) == CC_FLAGS) return (load<u64>(CC_SRC) & ZF) != 0;
  return load<u64>(CC_DST) == 0;
}

// @ts-ignore: decorator
@inline export function isSign(): bool {
  if (load<u32>(CC_OP) == CC_FLAGS) return (load<u64>(CC_SRC) & SF) != 0;
  return load<i64>(CC_DST) < 0;
}

export function isOverflow(): bool {
  const kind = load<u32>(CC_OP) & 0xf00;
  const b = load<u64>(CC_SRC);
  const r = load<u64>(CC_DST);
  if (kind == CC_SUB) { const a = r + b; return <i64>((a ^ b) & (a ^ r)) < 0; }
  if (kind == CC_ADD) { const a = r - b; return <i64>((a ^ r) & (b ^ r)) < 0; }
  return (b & OF) != 0;
}

export function isParity(): bool {
  const cc = load<u32>(CC_OP);
  if (cc == CC_FLAGS) return (load<u64>(CC_SRC) & PF) != 0;
  return (popcnt<u64>((load<u64>(CC_DST) >> <u64>(cc & 0xff)) & 0xff) & 1) == 0;
}

export function isAdjust(): bool {
  const cc = load<u32>(CC_OP);
  const kind = cc & 0xf00;
  const b = load<u64>(CC_SRC);
  if (kind < CC_ADD) return (b & AF) != 0;
  const r = load<u64>(CC_DST);
  const a = kind == CC_SUB ? r + b : r - b;
  return (((a ^ b ^ r) >> <u64>(cc & 0xff)) & AF) != 0;
}

/** SF ≠ OF. */
export function isLess(): bool {
  const kind = load<u32>(CC_OP) & 0xf00;
  if (kind == CC_SUB) { const b = load<i64>(CC_SRC); return load<i64>(CC_DST) + b < b; }
  return isSign() != isOverflow();
}

/** Condition `cc` of Jcc, SETcc, CMOVcc (SDM 1 appendix B). */
// @ts-ignore: decorator
@inline export function condition(cc: u32): bool {
  let r: bool;
  switch (cc >> 1) {
    case 0: r = isOverflow(); break;
    case 1: r = isCarry(); break;
    case 2: r = isZero(); break;
    case 3: r = isCarry() || isZero(); break;
    case 4: r = isSign(); break;
    case 5: r = isParity(); break;
    case 6: r = isLess(); break;
    default: r = isZero() || isLess(); break;
  }
  return r != <bool>(cc & 1);
}

export function conditionOf(cc: u32): bool { return condition(cc); }

export function statusFlags(): u32 {
  if (load<u32>(CC_OP) == CC_FLAGS) return load<u32>(CC_SRC);
  return (isCarry() ? CF : 0) | (isParity() ? PF : 0) | (isAdjust() ? AF : 0) | (isZero() ? ZF : 0) | (isSign() ? SF : 0) | (isOverflow() ? OF : 0);
}

/** RFLAGS, whole. */
export function readFlags(): u64 { return (load<u64>(RFLAGS) & ~<u64>STATUS_FLAGS) | 2 | <u64>statusFlags(); }

export function writeFlags(value: u64): void {
  store<u64>(RFLAGS, (value & ~<u64>STATUS_FLAGS) | 2);
  setStatusFlags(<u32>value);
}

/** Comparison results of COMISx, UCOMISx, FCOMI, PTEST, PCMPxSTRx: AF is cleared. */
export function setComparisonFlags(z: bool, p: bool, c: bool, s: bool, o: bool): void {
  setStatusFlags((z ? ZF : 0) | (p ? PF : 0) | (c ? CF : 0) | (s ? SF : 0) | (o ? OF : 0));
}
