/** ROUNDPS, ROUNDPD, ROUNDSS, ROUNDSD (Intel SDM vol. 2). */
import { sfRounding } from "../softfloat/environment";
import { f32RoundToInt } from "../softfloat/f32";
import { f64RoundToInt } from "../softfloat/f64";
import { beginFloat, endFloat } from "./mxcsr";

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

export function roundSs(reg: usize, rm: usize, imm: u32): i32 {
  beginFloat();
  const result = lane32(load<u32>(rm), imm);
  const vector = endFloat();
  if (vector) return vector;
  store<u32>(reg, result);
  return 0;
}

export function roundSd(reg: usize, rm: usize, imm: u32): i32 {
  beginFloat();
  const result = lane64(load<u64>(rm), imm);
  const vector = endFloat();
  if (vector) return vector;
  store<u64>(reg, result);
  return 0;
}
