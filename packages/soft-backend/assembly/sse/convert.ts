/** Conversions between integers, f32 and f64: 0F 2A, 2C, 2D, 5A, 5B, E6 (Intel SDM vol. 2). */
import { f32ToF64, f32ToI32, f32ToI64, i32ToF32, i64ToF32 } from "../softfloat/f32";
import { f64ToF32, f64ToI32, f64ToI64, i64ToF64 } from "../softfloat/f64";
import { CODE_REGISTER, CODE_REXW, NP, P66, PF2, PF3, key } from "./code";
import { enterMmx, storeMmx } from "./mmx-state";
import {
  beginFloat, endFloat, noDenormal32x4, noNaN32x4, notDenormal32, ordinary32, ordinary32x4, plainRounding,
} from "./mxcsr";

export function convert(code: u32, reg: usize, rm: usize): i32 {
  switch (key(code)) {
    case NP + 0x2a: return cvtpi2ps(code, reg, load<u64>(rm));
    case P66 + 0x2a: return cvtpi2pd(code, reg, load<u64>(rm));
    case PF3 + 0x2a: return cvtsi2ss(reg, general(code, rm));
    case PF2 + 0x2a: return cvtsi2sd(reg, general(code, rm));
    case NP + 0x2c: return ps2pi(reg, load<u64>(rm), true);
    case NP + 0x2d: return ps2pi(reg, load<u64>(rm), false);
    case P66 + 0x2c: return pd2pi(reg, v128.load(rm), true);
    case P66 + 0x2d: return pd2pi(reg, v128.load(rm), false);
    case PF3 + 0x2c: return ss2si(code, reg, load<u32>(rm), true);
    case PF3 + 0x2d: return ss2si(code, reg, load<u32>(rm), false);
    case PF2 + 0x2c: return sd2si(code, reg, load<u64>(rm), true);
    case PF2 + 0x2d: return sd2si(code, reg, load<u64>(rm), false);
    case NP + 0x5a: return cvtps2pd(reg, load<u64>(rm));
    case P66 + 0x5a: return cvtpd2ps(reg, v128.load(rm));
    case PF3 + 0x5a: return cvtss2sd(reg, load<u32>(rm));
    case PF2 + 0x5a: return cvtsd2ss(reg, load<u64>(rm));
    case NP + 0x5b: return cvtdq2ps(reg, v128.load(rm));
    case P66 + 0x5b: return ps2dq(reg, v128.load(rm), false);
    case PF3 + 0x5b: return ps2dq(reg, v128.load(rm), true);
    case P66 + 0xe6: return pd2dq(reg, v128.load(rm), true);
    case PF2 + 0xe6: return pd2dq(reg, v128.load(rm), false);
    case PF3 + 0xe6:
      v128.store(reg, f64x2.convert_low_i32x4_s(v128.load64_zero(rm)));
      return 0;
    default: return 6;
  }
}

/** A signed operand of 32 or, with REX.W, 64 bits. */
// @ts-ignore: decorator
@inline
function general(code: u32, rm: usize): i64 {
  return code & CODE_REXW ? load<i64>(rm) : <i64>load<i32>(rm);
}

/** The end of a conversion to a vector. */
// @ts-ignore: decorator
@inline
function finish(to: usize, result: v128): i32 {
  const vector = endFloat();
  if (vector) return vector;
  v128.store(to, result);
  return 0;
}

/** The end of a conversion to an MMX register. */
// @ts-ignore: decorator
@inline
function finishMmx(to: usize, low: i32, high: i32): i32 {
  enterMmx(); // Also if an exception follows.
  const vector = endFloat();
  if (vector) return vector;
  storeMmx(to, <u64>(<u32>low) | (<u64>(<u32>high) << 32));
  return 0;
}

/** With an operand in memory the x87 state stays as it is; so it does for CVTPI2PD. */
function cvtpi2ps(code: u32, reg: usize, from: u64): i32 {
  if (code & CODE_REGISTER) enterMmx();
  beginFloat();
  const low = i32ToF32(<i32>from);
  const high = i32ToF32(<i32>(from >> 32));
  const vector = endFloat();
  if (vector) return vector;
  store<u32>(reg, low);
  store<u32>(reg, high, 4);
  return 0;
}

/** Exact. */
function cvtpi2pd(code: u32, reg: usize, from: u64): i32 {
  v128.store(reg, f64x2.convert_low_i32x4_s(i64x2(<i64>from, 0)));
  if (code & CODE_REGISTER) enterMmx();
  return 0;
}

function cvtsi2ss(reg: usize, from: i64): i32 {
  if (plainRounding()) {
    store<f32>(reg, <f32>from);
    return 0;
  }
  beginFloat();
  const result = i64ToF32(from);
  const vector = endFloat();
  if (vector) return vector;
  store<u32>(reg, result);
  return 0;
}

function cvtsi2sd(reg: usize, from: i64): i32 {
  if (<i64>(<i32>from) == from || plainRounding()) {
    store<f64>(reg, <f64>from);
    return 0;
  }
  beginFloat();
  const result = i64ToF64(from);
  const vector = endFloat();
  if (vector) return vector;
  store<u64>(reg, result);
  return 0;
}

/** Exclusive bounds of the integers that fit. */
const LIMIT_32: f64 = 2147483648.0;
const LIMIT_64: f64 = 9223372036854775808.0;

/**
 * The common case of a conversion to an integer: it fits, and an inexact result raises no flag that is not set. Only PE
 * can arise then. Writes the register and tells whether this is that case.
 */
// @ts-ignore: decorator
@inline
function converted(code: u32, reg: usize, value: f64, truncate: bool): bool {
  if (!plainRounding()) return false;
  const whole = truncate ? trunc<f64>(value) : nearest<f64>(value);
  if (code & CODE_REXW) {
    if (!(abs<f64>(whole) < LIMIT_64)) return false;
    store<i64>(reg, <i64>whole);
  } else {
    if (!(abs<f64>(whole) < LIMIT_32)) return false;
    store<u64>(reg, <u64>(<u32>(<i32>whole)));
  }
  return true;
}

function ss2si(code: u32, reg: usize, from: u32, truncate: bool): i32 {
  if (converted(code, reg, <f64>reinterpret<f32>(from), truncate)) return 0;
  beginFloat();
  const result = code & CODE_REXW ? <u64>f32ToI64(from, truncate) : <u64>(<u32>f32ToI32(from, truncate));
  const vector = endFloat();
  if (vector) return vector;
  store<u64>(reg, result);
  return 0;
}

function sd2si(code: u32, reg: usize, from: u64, truncate: bool): i32 {
  if (converted(code, reg, reinterpret<f64>(from), truncate)) return 0;
  beginFloat();
  const result = code & CODE_REXW ? <u64>f64ToI64(from, truncate) : <u64>(<u32>f64ToI32(from, truncate));
  const vector = endFloat();
  if (vector) return vector;
  store<u64>(reg, result);
  return 0;
}

function ps2pi(reg: usize, from: u64, truncate: bool): i32 {
  beginFloat();
  const low = f32ToI32(<u32>from, truncate);
  const high = f32ToI32(<u32>(from >> 32), truncate);
  return finishMmx(reg, low, high);
}

function pd2pi(reg: usize, from: v128, truncate: bool): i32 {
  beginFloat();
  const low = f64ToI32(i64x2.extract_lane(from, 0), truncate);
  const high = f64ToI32(i64x2.extract_lane(from, 1), truncate);
  return finishMmx(reg, low, high);
}

function pd2dq(reg: usize, from: v128, truncate: bool): i32 {
  if (plainRounding()) {
    const whole = truncate ? f64x2.trunc(from) : f64x2.nearest(from);
    if (i64x2.all_true(f64x2.lt(f64x2.abs(whole), f64x2.splat(LIMIT_32)))) {
      v128.store(reg, i32x4.trunc_sat_f64x2_s_zero(whole));
      return 0;
    }
  }
  beginFloat();
  const low = f64ToI32(i64x2.extract_lane(from, 0), truncate);
  const high = f64ToI32(i64x2.extract_lane(from, 1), truncate);
  return finish(reg, i32x4(low, high, 0, 0));
}

function ps2dq(reg: usize, from: v128, truncate: bool): i32 {
  if (plainRounding()) {
    const whole = truncate ? from : f32x4.nearest(from);
    if (i32x4.all_true(f32x4.lt(f32x4.abs(whole), f32x4.splat(<f32>LIMIT_32)))) {
      v128.store(reg, i32x4.trunc_sat_f32x4_s(whole));
      return 0;
    }
  }
  beginFloat();
  const result = i32x4(
    f32ToI32(i32x4.extract_lane(from, 0), truncate),
    f32ToI32(i32x4.extract_lane(from, 1), truncate),
    f32ToI32(i32x4.extract_lane(from, 2), truncate),
    f32ToI32(i32x4.extract_lane(from, 3), truncate),
  );
  return finish(reg, result);
}

function cvtdq2ps(reg: usize, from: v128): i32 {
  if (plainRounding()) {
    v128.store(reg, f32x4.convert_i32x4_s(from));
    return 0;
  }
  beginFloat();
  const result = i32x4(
    i32ToF32(i32x4.extract_lane(from, 0)),
    i32ToF32(i32x4.extract_lane(from, 1)),
    i32ToF32(i32x4.extract_lane(from, 2)),
    i32ToF32(i32x4.extract_lane(from, 3)),
  );
  return finish(reg, result);
}

function cvtps2pd(reg: usize, from: u64): i32 {
  const pair = i64x2(<i64>from, 0);
  if (noNaN32x4(pair) && noDenormal32x4(pair)) {
    v128.store(reg, f64x2.promote_low_f32x4(pair));
    return 0;
  }
  beginFloat();
  const result = i64x2(f32ToF64(<u32>from), f32ToF64(<u32>(from >> 32)));
  return finish(reg, result);
}

function cvtpd2ps(reg: usize, from: v128): i32 {
  if (plainRounding()) {
    const result = f32x4.demote_f64x2_zero(from);
    if (i32x4.bitmask(ordinary32x4(result)) == 3) {
      v128.store(reg, result);
      return 0;
    }
  }
  beginFloat();
  const result = i32x4(f64ToF32(i64x2.extract_lane(from, 0)), f64ToF32(i64x2.extract_lane(from, 1)), 0, 0);
  return finish(reg, result);
}

function cvtss2sd(reg: usize, from: u32): i32 {
  const value = reinterpret<f32>(from);
  if (value == value && notDenormal32(from)) {
    store<f64>(reg, <f64>value);
    return 0;
  }
  beginFloat();
  const result = f32ToF64(from);
  const vector = endFloat();
  if (vector) return vector;
  store<u64>(reg, result);
  return 0;
}

function cvtsd2ss(reg: usize, from: u64): i32 {
  if (plainRounding()) {
    const result = reinterpret<u32>(<f32>reinterpret<f64>(from));
    if (ordinary32(result)) {
      store<u32>(reg, result);
      return 0;
    }
  }
  beginFloat();
  const result = f64ToF32(from);
  const vector = endFloat();
  if (vector) return vector;
  store<u32>(reg, result);
  return 0;
}
