/** ROUNDPS, ROUNDPD, ROUNDSS, ROUNDSD (Intel SDM vol. 2). */
import { sfRounding } from "../softfloat/environment";
import { f32RoundToInt } from "../softfloat/f32";
import { f64RoundToInt } from "../softfloat/f64";
import { beginFloat, endFloat, notDenormal32, notDenormal64, plainRounding } from "./mxcsr";

/** imm8[2]: round as MXCSR says, else as imm8[1:0]. */
// @ts-ignore: decorator
@inline
function direction(imm: u32): u32 {
  return imm & 4 ? sfRounding : imm & 3;
}

// @ts-ignore: decorator
@inline
function lane32(bits: u32, imm: u32): u32 {
  return f32RoundToInt(bits, direction(imm), (imm & 8) != 0);
}

// @ts-ignore: decorator
@inline
function lane64(bits: u64, imm: u32): u64 {
  return f64RoundToInt(bits, direction(imm), (imm & 8) != 0);
}

export function roundPs(reg: usize, rm: usize, imm: u32): i32 {
  const b = v128.load(rm);
  beginFloat();
  const result = i32x4(
    lane32(i32x4.extract_lane(b, 0), imm),
    lane32(i32x4.extract_lane(b, 1), imm),
    lane32(i32x4.extract_lane(b, 2), imm),
    lane32(i32x4.extract_lane(b, 3), imm),
  );
  const vector = endFloat();
  if (vector) return vector;
  v128.store(reg, result);
  return 0;
}

export function roundPd(reg: usize, rm: usize, imm: u32): i32 {
  const b = v128.load(rm);
  beginFloat();
  const result = i64x2(lane64(i64x2.extract_lane(b, 0), imm), lane64(i64x2.extract_lane(b, 1), imm));
  const vector = endFloat();
  if (vector) return vector;
  v128.store(reg, result);
  return 0;
}

/** Whether only PE can arise, and that is set, or suppressed by imm8[3]. */
// @ts-ignore: decorator
@inline
function silent(imm: u32): bool {
  return plainRounding() || (imm & 12) == 8;
}

/** Rounds by the imm8 of a `silent` instruction: MXCSR says nearest if it is asked. */
// @ts-ignore: decorator
@inline
function integral<T>(value: T, imm: u32): T {
  switch (imm & 4 ? 0 : imm & 3) {
    case 0: return nearest<T>(value);
    case 1: return floor<T>(value);
    case 2: return ceil<T>(value);
    default: return trunc<T>(value);
  }
}

export function roundSs(reg: usize, rm: usize, imm: u32): i32 {
  const from = load<u32>(rm);
  const value = reinterpret<f32>(from);
  if (silent(imm) && value == value && notDenormal32(from)) {
    store<f32>(reg, integral<f32>(value, imm));
    return 0;
  }
  beginFloat();
  const result = lane32(from, imm);
  const vector = endFloat();
  if (vector) return vector;
  store<u32>(reg, result);
  return 0;
}

export function roundSd(reg: usize, rm: usize, imm: u32): i32 {
  const from = load<u64>(rm);
  const value = reinterpret<f64>(from);
  if (silent(imm) && value == value && notDenormal64(from)) {
    store<f64>(reg, integral<f64>(value, imm));
    return 0;
  }
  beginFloat();
  const result = lane64(from, imm);
  const vector = endFloat();
  if (vector) return vector;
  store<u64>(reg, result);
  return 0;
}
