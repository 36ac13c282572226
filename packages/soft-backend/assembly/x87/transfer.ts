/**
 * Loads, stores, constants and packed decimals (SDM 1 §8.3.3, §8.3.4, §4.7). Stores tell whether they wrote: an unmasked
 * exception leaves memory alone.
 */
import { DE, IE, NEAREST, UP, sfFlags, sfRaise, sfRounding, sfSetRoundedUp } from "../softfloat/environment";
import {
  f32Widen,
  f64Widen,
  f80IsSignalling,
  f80Set,
  f80ToF32,
  f80ToF64,
  f80ToInteger,
  f80ToSigned,
  i64ToF80,
  u64ToF80,
  xDenormal,
  xSe,
  xSig,
} from "../softfloat/f80";
import { integer } from "../softfloat/rounding";
import {
  free,
  isEmpty,
  pop,
  pushResult,
  report,
  reportStore,
  setC1,
  signExponent,
  significand,
  stackFault,
  write,
} from "./stack";

/** Widens the operand of D8, DA, DC, DE: f32, i32, f64, i16 by the opcode's bits 1–2. */
export function widenOperand(opcode: u32, ptr: usize): void {
  const kind = (opcode >> 1) & 3;
  if (kind == 0) f32Widen(load<u32>(ptr));
  else if (kind == 2) f64Widen(load<u64>(ptr));
  else {
    widenInteger(kind == 1 ? <i64>load<i32>(ptr) : <i64>load<i16>(ptr));
  }
}

function widenInteger(value: i64): void {
  f32Widen(0);
  i64ToF80(value);
}

/** Pushes the last f80 result unless the stack is full. */
function pushChecked(): void {
  if (!isEmpty(7)) {
    if (stackFault(true)) pushResult();
    return;
  }
  pushResult();
}

function loadWidened(): void {
  if (isEmpty(7)) {
    const sig = xSig;
    const se = xSe;
    sfSetRoundedUp(false);
    if (f80IsSignalling(sig, se)) sfRaise(IE);
    else if (xDenormal) sfRaise(DE);
    // A denormal is loaded even if DE is unmasked: it will be reported by the next instruction.
    if (!report() && (sfFlags & IE) != 0) return;
    f80Set((sfFlags & IE) != 0 ? sig | (1 << 62) : sig, se);
  }
  pushChecked();
}

export function loadF32(ptr: usize): void {
  f32Widen(load<u32>(ptr));
  loadWidened();
}

export function loadF64(ptr: usize): void {
  f64Widen(load<u64>(ptr));
  loadWidened();
}

/** FLD m80: a copy without exceptions. */
export function loadF80(ptr: usize): void {
  setC1(false);
  f80Set(load<u64>(ptr), load<u16>(ptr, 8));
  pushChecked();
}

/** FILD. */
export function loadInteger(value: i64): void {
  setC1(false);
  i64ToF80(value);
  pushChecked();
}

/** FLD ST(i). */
export function loadRegister(i: u32): void {
  if (isEmpty(i) || !isEmpty(7)) {
    if (stackFault(!isEmpty(i))) pushResult();
    return;
  }
  setC1(false);
  f80Set(significand(i), signExponent(i));
  pushResult();
}

/** FLD1 FLDL2T FLDL2E FLDPI FLDLG2 FLDLN2 FLDZ: rounded from the infinite constant (SDM 1 §8.3.8). */
export function loadConstant(n: u32): void {
  const nearest = sfRounding == NEAREST;
  const up = sfRounding == UP;
  setC1(false);
  if (n == 0) f80Set(0x8000000000000000, 0x3fff);
  else if (n == 1) f80Set(0xd49a784bcd1b8afe + u64(up), 0x4000);
  else if (n == 2) f80Set(0xb8aa3b295c17f0bb + u64(up || nearest), 0x3fff);
  else if (n == 3) f80Set(0xc90fdaa22168c234 + u64(up || nearest), 0x4000);
  else if (n == 4) f80Set(0x9a209a84fbcff798 + u64(up || nearest), 0x3ffd);
  else if (n == 5) f80Set(0xb17217f7d1cf79ab + u64(up || nearest), 0x3ffe);
  else f80Set(0, 0);
  pushChecked();
}

/** FST, FSTP m32. */
export function storeF32(ptr: usize, popping: bool): bool {
  let bits: u32 = 0xffc00000;
  if (isEmpty(0)) {
    if (!stackFault(false)) return false;
  } else {
    bits = f80ToF32(significand(0), signExponent(0));
    if (!reportStore()) return false;
  }
  store<u32>(ptr, bits);
  if (popping) pop();
  return true;
}

/** FST, FSTP m64. */
export function storeF64(ptr: usize, popping: bool): bool {
  let bits: u64 = 0xfff8000000000000;
  if (isEmpty(0)) {
    if (!stackFault(false)) return false;
  } else {
    bits = f80ToF64(significand(0), signExponent(0));
    if (!reportStore()) return false;
  }
  store<u64>(ptr, bits);
  if (popping) pop();
  return true;
}

/** FSTP m80: a copy without exceptions. */
export function storeF80(ptr: usize): bool {
  if (isEmpty(0)) {
    if (!stackFault(false)) return false;
  } else {
    setC1(false);
    f80Set(significand(0), signExponent(0));
  }
  store<u64>(ptr, xSig);
  store<u16>(ptr, <u16>xSe, 8);
  pop();
  return true;
}

/** FST, FSTP ST(i). */
export function storeRegister(i: u32, popping: bool): void {
  if (isEmpty(0)) {
    if (!stackFault(false)) return;
  } else {
    setC1(false);
    f80Set(significand(0), signExponent(0));
  }
  write(i, xSig, xSe);
  if (popping) pop();
}

/** The alias of FSTP ST(i) at D9 D8+i: an empty ST(0) is popped in silence. */
export function storeRegisterQuietly(i: u32): void {
  if (isEmpty(0)) {
    setC1(false);
    pop();
  } else storeRegister(i, true);
}

/** FIST, FISTP, FISTTP of `bits`. */
export function storeInteger(ptr: usize, bits: u32, popping: bool, truncate: bool): bool {
  let value: i64 = i64.MIN_VALUE >> (64 - bits);
  if (isEmpty(0)) {
    if (!stackFault(false)) return false;
  } else {
    value = f80ToSigned(significand(0), signExponent(0), bits, truncate);
    if (!report()) return false;
  }
  if (bits == 16) store<u16>(ptr, <u16>value);
  else if (bits == 32) store<u32>(ptr, <u32>value);
  else store<u64>(ptr, <u64>value);
  if (popping) pop();
  return true;
}

/** FBLD: 18 decimal digits and a sign. Digits above 9 count as they are. */
export function loadDecimal(ptr: usize): void {
  setC1(false);
  let value: u64 = 0;
  for (let i = 8; i >= 0; i--) {
    const byte: u32 = load<u8>(ptr + i);
    value = value * 100 + (byte >> 4) * 10 + (byte & 15);
  }
  u64ToF80((load<u8>(ptr, 9) & 0x80) != 0, value);
  pushChecked();
}

/** FBSTP. */
export function storeDecimal(ptr: usize): bool {
  let fits = false;
  if (isEmpty(0)) {
    if (!stackFault(false)) return false;
  } else {
    fits = f80ToInteger(significand(0), signExponent(0), 1000000000000000000, false, false);
    if (!report()) return false;
  }
  if (fits) {
    let rest = integer;
    for (let i: usize = 0; i < 9; i++) {
      const pair = u32(rest % 100);
      rest /= 100;
      store<u8>(ptr + i, <u8>(((pair / 10) << 4) | (pair % 10)));
    }
    store<u8>(ptr, <u8>((signExponent(0) >> 8) & 0x80), 9);
  } else {
    store<u64>(ptr, 0xc000000000000000);
    store<u16>(ptr, 0xffff, 8);
  }
  pop();
  return true;
}

/** FFREE, FFREEP. */
export function freeRegister(i: u32, popping: bool): void {
  setC1(false);
  free(i);
  if (popping) pop();
}
