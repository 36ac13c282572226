// Two-operand arithmetic with its flags.
import { CC_ADD, CC_FLAGS, CC_SUB, isCarry, setFlagsOf, setResultFlags, setStatusFlags, statusFlags } from "./flags";
import { CC_OP, CC_SRC } from "../src/cpu/layout";
import { AF, CF, OF } from "./state";

// @ts-ignore: decorator
@inline export function add<T>(a: T, b: T): T { const r = <T>(a + b); setFlagsOf<T>(CC_ADD, r, b); return r; }
// @ts-ignore: decorator
@inline export function sub<T>(a: T, b: T): T { const r = <T>(a - b); setFlagsOf<T>(CC_SUB, r, b); return r; }
// @ts-ignore: decorator
@inline export function cmp<T>(a: T, b: T): void { setFlagsOf<T>(CC_SUB, <T>(a - b), b); }
// @ts-ignore: decorator
@inline export function or<T>(a: T, b: T): T { const r = <T>(a | b); setResultFlags<T>(r, 0); return r; }
// @ts-ignore: decorator
@inline export function and<T>(a: T, b: T): T { const r = <T>(a & b); setResultFlags<T>(r, 0); return r; }
// @ts-ignore: decorator
@inline export function xor<T>(a: T, b: T): T { const r = <T>(a ^ b); setResultFlags<T>(r, 0); return r; }
// @ts-ignore: decorator
@inline export function test<T>(a: T, b: T): void { setResultFlags<T>(<T>(a & b), 0); }

/** Sign bit of a T. */
// @ts-ignore: decorator
@inline function sign<T>(v: T): bool { return ((<u64>v >> (8 * sizeof<T>() - 1)) & 1) != 0; }

export function adc<T>(a: T, b: T): T {
  const carry = isCarry();
  const r = <T>(a + b + <T>carry);
  const c = carry ? r <= a : r < a;
  setResultFlags<T>(r, (c ? CF : 0) | (<u32>(<u64>(a ^ b ^ r)) & AF) | (sign<T>(<T>((a ^ r) & (b ^ r))) ? OF : 0));
  return r;
}

export function sbb<T>(a: T, b: T): T {
  const carry = isCarry();
  const r = <T>(a - b - <T>carry);
  const c = carry ? a <= b : a < b;
  setResultFlags<T>(r, (c ? CF : 0) | (<u32>(<u64>(a ^ b ^ r)) & AF) | (sign<T>(<T>((a ^ b) & (a ^ r))) ? OF : 0));
  return r;
}

// @ts-ignore: decorator
@inline export function inc<T>(a: T): T {
  const r = <T>(a + 1);
  setResultFlags<T>(r, (isCarry() ? CF : 0) | ((<u32>r & 15) == 0 ? AF : 0) | (r == <T>(<u64>1 << (8 * sizeof<T>() - 1)) ? OF : 0));
  return r;
}

// @ts-ignore: decorator
@inline export function dec<T>(a: T): T {
  const r = <T>(a - 1);
  setResultFlags<T>(r, (isCarry() ? CF : 0) | ((<u32>a & 15) == 0 ? AF : 0) | (a == <T>(<u64>1 << (8 * sizeof<T>() - 1)) ? OF : 0));
  return r;
}

/** Shifts by a count that is neither zero nor as wide as the operand. */
// @ts-ignore: decorator
@inline export function shl<T>(a: T, n: T): T {
  const r = <T>(a << n);
  const c = ((a >> (<T>(8 * sizeof<T>()) - n)) & 1) != 0;
  setResultFlags<T>(r, (c ? CF : 0) | (sign<T>(r) != c ? OF : 0));
  return r;
}
// @ts-ignore: decorator
@inline export function shr<T>(a: T, n: T): T {
  const r = <T>(a >> n);
  setResultFlags<T>(r, (<u32>(a >> (n - 1)) & CF) | (sign<T>(a) ? OF : 0));
  return r;
}
// @ts-ignore: decorator
@inline export function sar<T>(a: T, n: T): T {
  if (sizeof<T>() == 8) {
    setResultFlags<u64>(<u64>(<i64>a >> <i64>n), <u32>(<i64>a >> <i64>(n - 1)) & CF);
    return <T>(<i64>a >> <i64>n);
  }
  setResultFlags<u32>(<u32>(<i32>a >> <i32>n), <u32>(<i32>a >> <i32>(n - 1)) & CF);
  return <T>(<i32>a >> <i32>n);
}

/** Rotates by a count that is neither zero nor as wide as the operand: CF and OF alone change. */
export function rol<T>(a: T, n: T): T {
  const r = rotl<T>(a, n);
  const c = (<u32>r & 1) != 0;
  setStatusFlags((statusFlags() & ~(CF | OF)) | (c ? CF : 0) | (sign<T>(r) != c ? OF : 0));
  return r;
}
export function ror<T>(a: T, n: T): T {
  const r = rotr<T>(a, n);
  const c = sign<T>(r);
  setStatusFlags((statusFlags() & ~(CF | OF)) | (c ? CF : 0) | (sign<T>(<T>(r << 1)) != c ? OF : 0));
  return r;
}

/** BT: CF alone changes. */
// @ts-ignore: decorator
@inline export function setCarry(bit: u64): void {
  const flags = statusFlags();
  store<u32>(CC_OP, CC_FLAGS);
  store<u64>(CC_SRC, <u64>(flags & ~CF) | bit);
}
