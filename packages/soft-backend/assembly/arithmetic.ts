// Arithmetic of the slower integer instructions: multiply, divide, shifts, rotates, bits. Operands by pointer.
import { DE, raise } from "./faults";
import { CF, OF, RAX, RDX, ZF } from "./state";
import { isCarry, setFlagsOf, setResultFlags, setStatusFlags, statusFlags, CC_ADD, CC_SUB } from "./flags";

/** Stores to a register pointer: 32-bit results clear the upper half. */
// @ts-ignore: decorator
@inline export function put<T>(p: usize, value: T): void {
  if (sizeof<T>() == 4) store<u64>(p, <u64><u32>value);
  else store<T>(p, value);
}

// @ts-ignore: decorator
@inline export function bitsOf<T>(): u32 { return 8 * sizeof<T>(); }

/** High half of the unsigned product. */
export function mulHigh(a: u64, b: u64): u64 {
  const a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
  const t = a0 * b0;
  const m = a1 * b0 + (t >> 32);
  const n = a0 * b1 + (m & 0xffffffff);
  return a1 * b1 + (m >> 32) + (n >> 32);
}

export function mulHighSigned(a: i64, b: i64): i64 {
  return <i64>mulHigh(<u64>a, <u64>b) - (a < 0 ? b : 0) - (b < 0 ? a : 0);
}

/** CF and OF say whether the product overflowed; the others follow the low half (as the host defines what the SDM leaves open). */
// @ts-ignore: decorator
@inline function productFlags<T>(low: T, overflow: bool): void { setResultFlags<T>(low, overflow ? CF | OF : 0); }

export function multiply<T>(p: usize): void {
  if (sizeof<T>() == 8) {
    const a = load<u64>(RAX), b = load<u64>(p);
    const high = mulHigh(a, b);
    store<u64>(RAX, a * b);
    store<u64>(RDX, high);
    productFlags<u64>(a * b, high != 0);
  } else if (sizeof<T>() == 4) {
    const r = <u64>load<u32>(RAX) * <u64>load<u32>(p);
    store<u64>(RAX, r & 0xffffffff);
    store<u64>(RDX, r >> 32);
    productFlags<u32>(<u32>r, r >> 32 != 0);
  } else if (sizeof<T>() == 2) {
    const r = <u32>load<u16>(RAX) * <u32>load<u16>(p);
    store<u16>(RAX, <u16>r);
    store<u16>(RDX, <u16>(r >> 16));
    productFlags<u16>(<u16>r, r >> 16 != 0);
  } else {
    const r = <u32>load<u8>(RAX) * <u32>load<u8>(p);
    store<u16>(RAX, <u16>r);
    productFlags<u8>(<u8>r, r >> 8 != 0);
  }
}

export function multiplySigned<T>(p: usize): void {
  if (sizeof<T>() == 8) {
    const a = load<i64>(RAX), b = load<i64>(p);
    const low = a * b, high = mulHighSigned(a, b);
    store<i64>(RAX, low);
    store<i64>(RDX, high);
    productFlags<u64>(low, high != low >> 63);
  } else if (sizeof<T>() == 4) {
    const r = <i64>load<i32>(RAX) * <i64>load<i32>(p);
    store<u64>(RAX, <u64>r & 0xffffffff);
    store<u64>(RDX, <u64>r >> 32);
    productFlags<u32>(<u32>r, r != <i64><i32>r);
  } else if (sizeof<T>() == 2) {
    const r = <i32>load<i16>(RAX) * <i32>load<i16>(p);
    store<u16>(RAX, <u16>r);
    store<u16>(RDX, <u16>(r >> 16));
    productFlags<u16>(<u16>r, r != <i32><i16>r);
  } else {
    const r = <i32>load<i8>(RAX) * <i32>load<i8>(p);
    store<u16>(RAX, <u16>r);
    productFlags<u8>(<u8>r, r != <i32><i8>r);
  }
}

/** IMUL with two or three operands: dst ← a * b. */
export function multiplyTo<T>(dst: usize, a: i64, b: i64): void {
  if (sizeof<T>() == 8) {
    const low = a * b;
    store<i64>(dst, low);
    productFlags<u64>(low, mulHighSigned(a, b) != low >> 63);
  } else {
    const r = a * b;
    put<T>(dst, <T>r);
    if (sizeof<T>() == 4) productFlags<u32>(<u32>r, r != <i64><i32>r);
    else productFlags<u16>(<u16>r, r != <i64><i16>r);
  }
}

/** 128 / 64 → quotient; `high < divisor`. The remainder is left in `remainder`. */
let remainder: u64 = 0;
function divideWide(high: u64, low: u64, divisor: u64): u64 {
  if (high == 0) {
    remainder = low % divisor;
    return low / divisor;
  }
  let q: u64 = 0;
  let r = high;
  for (let i = 63; i >= 0; i--) {
    const carry = r >> 63;
    r = (r << 1) | ((low >> <u64>i) & 1);
    if (carry || r >= divisor) { r -= divisor; q |= <u64>1 << <u64>i; }
  }
  remainder = r;
  return q;
}

function divideError(): bool {
  raise(DE, 0);
  return false;
}

export function divide<T>(p: usize): bool {
  if (sizeof<T>() == 8) {
    const d = load<u64>(p), high = load<u64>(RDX);
    if (high >= d) return divideError();
    store<u64>(RAX, divideWide(high, load<u64>(RAX), d));
    store<u64>(RDX, remainder);
    return true;
  }
  if (sizeof<T>() == 1) {
    const a = <u32>load<u16>(RAX), d = <u32>load<u8>(p);
    if (d == 0 || a / d > 0xff) return divideError();
    store<u16>(RAX, <u16>((a / d) | ((a % d) << 8)));
    return true;
  }
  const bits: u64 = bitsOf<T>();
  const d = <u64>load<T>(p);
  const a = (<u64>load<T>(RDX) << bits) | <u64>load<T>(RAX);
  if (d == 0 || (a / d) >> bits) return divideError();
  put<T>(RAX, <T>(a / d));
  put<T>(RDX, <T>(a % d));
  return true;
}

export function divideSigned<T>(p: usize): bool {
  if (sizeof<T>() == 8) {
    const d = load<i64>(p);
    let high = load<u64>(RDX), low = load<u64>(RAX);
    const isNegative = <i64>high < 0;
    if (isNegative) { low = ~low + 1; high = ~high + (low == 0 ? 1 : 0); }
    const magnitude: u64 = d < 0 ? 0 - <u64>d : <u64>d;
    if (high >= magnitude) return divideError();
    const q = divideWide(high, low, magnitude);
    const isQuotientNegative = isNegative != d < 0;
    if (q > (isQuotientNegative ? <u64>1 << 63 : (<u64>1 << 63) - 1)) return divideError();
    store<u64>(RAX, isQuotientNegative ? 0 - q : q);
    store<u64>(RDX, isNegative ? 0 - remainder : remainder);
    return true;
  }
  if (sizeof<T>() == 1) {
    const a = <i32>load<i16>(RAX), d = <i32>load<i8>(p);
    if (d == 0 || a / d != <i32><i8>(a / d)) return divideError();
    store<u16>(RAX, <u16>(((a / d) & 0xff) | ((a % d) << 8)));
    return true;
  }
  if (sizeof<T>() == 2) {
    const a = <i32>((<u32>load<u16>(RDX) << 16) | <u32>load<u16>(RAX)), d = <i32>load<i16>(p);
    if (d == 0 || (d == -1 && a == i32.MIN_VALUE) || a / d != <i32><i16>(a / d)) return divideError();
    store<u16>(RAX, <u16>(a / d));
    store<u16>(RDX, <u16>(a % d));
    return true;
  }
  const a = <i64>((<u64>load<u32>(RDX) << 32) | <u64>load<u32>(RAX)), d = <i64>load<i32>(p);
  if (d == 0 || (d == -1 && a == i64.MIN_VALUE) || a / d != <i64><i32>(a / d)) return divideError();
  store<u64>(RAX, <u64><u32>(a / d));
  store<u64>(RDX, <u64><u32>(a % d));
  return true;
}

/** Replaces CF and OF, keeps the rest. */
function setCarryOverflow(carry: bool, overflow: bool): void {
  setStatusFlags((statusFlags() & ~(CF | OF)) | (carry ? CF : 0) | (overflow ? OF : 0));
}

// @ts-ignore: decorator
@inline function top<T>(v: u64): bool { return ((v >> (bitsOf<T>() - 1)) & 1) != 0; }

/** Shift and rotate group: `op` is modrm.reg, `count` already masked to 5 or 6 bits. Returns the result. */
export function shift<T>(op: u32, value: T, count: u32): T {
  const bits = bitsOf<T>();
  const v = <u64>value;
  if (count == 0) return value;
  switch (op) {
    case 0: { // ROL
      const c = count & (bits - 1);
      const r = c ? <T>((v << c) | (v >> (bits - c))) : value;
      setCarryOverflow((<u64>r & 1) != 0, ((<u64>r & 1) != 0) != top<T>(<u64>r));
      return r;
    }
    case 1: { // ROR
      const c = count & (bits - 1);
      const r = c ? <T>((v >> c) | (v << (bits - c))) : value;
      setCarryOverflow(top<T>(<u64>r), top<T>(<u64>r) != top<T>(<u64>r << 1));
      return r;
    }
    case 2: { // RCL
      const c = count % (bits + 1);
      let carry: u64 = isCarry() ? 1 : 0;
      let r = v;
      for (let i: u32 = 0; i < c; i++) {
        const next: u64 = top<T>(r) ? 1 : 0;
        r = <u64><T>((r << 1) | carry);
        carry = next;
      }
      setCarryOverflow(carry != 0, top<T>(r) != (carry != 0));
      return <T>r;
    }
    case 3: { // RCR
      const c = count % (bits + 1);
      let carry: u64 = isCarry() ? 1 : 0;
      let r = v;
      for (let i: u32 = 0; i < c; i++) {
        const next = r & 1;
        r = (r >> 1) | (carry << (bits - 1));
        carry = next;
      }
      setCarryOverflow(carry != 0, top<T>(r) != top<T>(r << 1));
      return <T>r;
    }
    case 5: { // SHR
      const r: u64 = count >= bits ? 0 : v >> count;
      const carry = count <= bits && ((v >> (count - 1)) & 1) != 0;
      setResultFlags<T>(<T>r, (carry ? CF : 0) | (top<T>(v) ? OF : 0));
      return <T>r;
    }
    case 7: { // SAR
      const s = signExtend<T>(v);
      const c: u32 = min<u32>(count, 63);
      const r = s >> <i64>c;
      setResultFlags<T>(<T>r, (s >> <i64>(c - 1)) & 1 ? CF : 0);
      return <T>r;
    }
    default: { // SHL, SAL
      const r: u64 = count >= bits ? 0 : <u64><T>(v << count);
      const carry = count <= bits && ((v >> (bits - count)) & 1) != 0;
      setResultFlags<T>(<T>r, (carry ? CF : 0) | (top<T>(r) != carry ? OF : 0));
      return <T>r;
    }
  }
}

// @ts-ignore: decorator
@inline function signExtend<T>(v: u64): i64 {
  if (sizeof<T>() == 1) return <i64><i8>v;
  if (sizeof<T>() == 2) return <i64><i16>v;
  if (sizeof<T>() == 4) return <i64><i32>v;
  return <i64>v;
}

/** SHLD and SHRD; `count` masked to 5 or 6 bits. A count beyond 16 bits is undefined: zero shift of what remains. */
export function shiftDouble<T>(value: T, fill: T, count: u32, isLeft: bool): T {
  if (count == 0) return value;
  const bits = bitsOf<T>();
  const v = <u64>value, f = <u64>fill;
  let r: u64;
  let carry: bool;
  if (sizeof<T>() == 2) {
    // Counts over 16 are undefined in the SDM; processors shift through both operands and round again.
    const wide: u64 = (v << 32) | (f << 16) | v;
    if (isLeft) { r = (wide << count) >> 32; carry = ((wide >> (48 - count)) & 1) != 0; }
    else { r = wide >> count; carry = ((wide >> (count - 1)) & 1) != 0; }
    r &= 0xffff;
  } else if (isLeft) {
    r = (v << count) | (f >> (bits - count));
    carry = ((v >> (bits - count)) & 1) != 0;
  } else {
    r = (v >> count) | (f << (bits - count));
    carry = ((v >> (count - 1)) & 1) != 0;
  }
  const result = <T>r;
  setResultFlags<T>(result, (carry ? CF : 0) | (top<T>(<u64>result) != top<T>(v) ? OF : 0));
  return result;
}

/** BSF, BSR: ZF alone is defined; a zero source leaves the destination. */
export function bitScan<T>(dst: usize, value: T, isReverse: bool): void {
  const v = <u64>value;
  if (v == 0) {
    setStatusFlags(statusFlags() | ZF);
    return;
  }
  put<T>(dst, <T>(isReverse ? 63 - clz<u64>(v) : ctz<u64>(v)));
  setStatusFlags(statusFlags() & ~ZF);
}

export function compareExchange<T>(p: usize, source: T, isRegister: bool): void {
  const a = load<T>(RAX);
  const v = load<T>(p);
  if (a == v) {
    if (isRegister) put<T>(p, source);
    else store<T>(p, source);
  } else {
    put<T>(RAX, v);
    if (!isRegister) store<T>(p, v); // memory is written either way; a register keeps even its upper half
  }
  setFlagsOf<T>(CC_SUB, <T>(a - v), v);
}

export function exchangeAdd<T>(p: usize, register: usize, isRegister: bool): void {
  const a = load<T>(p), b = load<T>(register);
  const r = <T>(a + b);
  put<T>(register, a);
  if (isRegister) put<T>(p, r);
  else store<T>(p, r);
  setFlagsOf<T>(CC_ADD, r, b);
}

/** CRC-32C (Castagnoli), bit-reflected, `bytes` of `value`. */
export function crc32c(crc: u32, value: u64, bytes: u32): u32 {
  for (let i: u32 = 0; i < bytes; i++) {
    crc ^= <u32>(value & 0xff);
    value >>= 8;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
  }
  return crc;
}
