/**
 * SQRT, ADD, MUL, SUB, MIN, DIV, MAX in their packed and scalar forms (Intel SDM vol. 2, vol. 1 §11.5).
 *
 * Operands and results that cannot raise a new flag take WebAssembly's own arithmetic, everything else goes lane by
 * lane through the software floating point.
 */
import { f32Add, f32Compare, f32Div, f32Mul, f32Sqrt, f32Sub } from "../softfloat/f32";
import { f64Add, f64Compare, f64Div, f64Mul, f64Sqrt, f64Sub } from "../softfloat/f64";
import { sfDaz } from "../softfloat/environment";
import {
  beginFloat, endFloat, isZero32x4, isZero64x2, noDenormal32x4, noDenormal64x2, notDenormal32, notDenormal64, ordinary32,
  ordinary32x4, ordinary64, ordinary64x2, plainRounding,
} from "./mxcsr";

export const SQRT: u32 = 0x51;
export const ADD: u32 = 0x58;
export const MUL: u32 = 0x59;
export const SUB: u32 = 0x5c;
export const MIN: u32 = 0x5d;
export const DIV: u32 = 0x5e;
export const MAX: u32 = 0x5f;
/** ADDSUBPS, ADDSUBPD: even lanes subtract, odd lanes add. */
export const ADDSUB: u32 = 0xd0;

export function arithmetic(code: u32, reg: usize, rm: usize): i32 {
  const op = code & 0xff;
  switch ((code >> 12) & 3) {
    case 0:
      return packedPs(op, v128.load(reg), v128.load(rm), reg);
    case 1:
      return packedPd(op, v128.load(reg), v128.load(rm), reg);
    case 2:
      return scalarSs(op, reg, load<u32>(rm));
    default:
      return scalarSd(op, reg, load<u64>(rm));
  }
}

/** Normal operands and results raise no flag that is not set yet. */
// @ts-ignore: decorator
@inline
function flagless(op: u32): bool {
  return op == MIN || op == MAX || plainRounding();
}

/** A zero from these operands is exact. */
// @ts-ignore: decorator
@inline
function exactZero(op: u32, aIsZero: bool, bIsZero: bool): bool {
  return op == MUL ? aIsZero || bIsZero : op == DIV ? aIsZero : true;
}

function scalarSd(op: u32, reg: usize, b: u64): i32 {
  const a = load<u64>(reg);
  if (flagless(op) && notDenormal64(b) && (op == SQRT || notDenormal64(a))) {
    const x = reinterpret<f64>(a);
    const y = reinterpret<f64>(b);
    let value: f64;
    switch (op) {
      case ADD: value = x + y; break;
      case MUL: value = x * y; break;
      case SUB: value = x - y; break;
      case DIV: value = x / y; break;
      case SQRT: value = sqrt<f64>(y); break;
      case MIN: value = x < y ? x : y; break;
      default: value = x > y ? x : y; break;
    }
    const result = reinterpret<u64>(value);
    if (ordinary64(result) || (result << 1 == 0 && exactZero(op, a << 1 == 0, b << 1 == 0))) {
      if ((op != MIN && op != MAX) || x == x) {
        store<u64>(reg, result);
        return 0;
      }
    }
  }
  beginFloat();
  const result = lane64(op, a, b);
  const vector = endFloat();
  if (vector) return vector;
  store<u64>(reg, result);
  return 0;
}

function scalarSs(op: u32, reg: usize, b: u32): i32 {
  const a = load<u32>(reg);
  if (flagless(op) && notDenormal32(b) && (op == SQRT || notDenormal32(a))) {
    const x = reinterpret<f32>(a);
    const y = reinterpret<f32>(b);
    let value: f32;
    switch (op) {
      case ADD: value = x + y; break;
      case MUL: value = x * y; break;
      case SUB: value = x - y; break;
      case DIV: value = x / y; break;
      case SQRT: value = sqrt<f32>(y); break;
      case MIN: value = x < y ? x : y; break;
      default: value = x > y ? x : y; break;
    }
    const result = reinterpret<u32>(value);
    if (ordinary32(result) || (result << 1 == 0 && exactZero(op, a << 1 == 0, b << 1 == 0))) {
      if ((op != MIN && op != MAX) || x == x) {
        store<u32>(reg, result);
        return 0;
      }
    }
  }
  beginFloat();
  const result = lane32(op, a, b);
  const vector = endFloat();
  if (vector) return vector;
  store<u32>(reg, result);
  return 0;
}

/** Combines four lanes and stores the result at `to`. */
export function packedPs(op: u32, a: v128, b: v128, to: usize): i32 {
  if (flagless(op) && noDenormal32x4(b) && (op == SQRT || noDenormal32x4(a))) {
    let result: v128;
    switch (op) {
      case ADD: result = f32x4.add(a, b); break;
      case MUL: result = f32x4.mul(a, b); break;
      case SUB: result = f32x4.sub(a, b); break;
      case DIV: result = f32x4.div(a, b); break;
      case SQRT: result = f32x4.sqrt(b); break;
      case MIN: result = f32x4.pmin(b, a); break;
      case MAX: result = f32x4.pmax(b, a); break;
      default: result = f32x4.add(a, v128.xor(b, i64x2.splat(0x80000000))); break;
    }
    let exact = isZero32x4(result);
    if (op == MUL) exact = v128.and(exact, v128.or(isZero32x4(a), isZero32x4(b)));
    else if (op == DIV) exact = v128.and(exact, isZero32x4(a));
    else if (op == MIN || op == MAX) exact = v128.and(exact, f32x4.eq(a, a));
    let safe = ordinary32x4(result);
    if (op == MIN || op == MAX) safe = v128.and(safe, f32x4.eq(a, a));
    if (i32x4.all_true(v128.or(safe, exact))) {
      v128.store(to, result);
      return 0;
    }
  }
  beginFloat();
  const even = op == ADDSUB ? SUB : op;
  const odd = op == ADDSUB ? ADD : op;
  const result = i32x4(
    lane32(even, i32x4.extract_lane(a, 0), i32x4.extract_lane(b, 0)),
    lane32(odd, i32x4.extract_lane(a, 1), i32x4.extract_lane(b, 1)),
    lane32(even, i32x4.extract_lane(a, 2), i32x4.extract_lane(b, 2)),
    lane32(odd, i32x4.extract_lane(a, 3), i32x4.extract_lane(b, 3)),
  );
  const vector = endFloat();
  if (vector) return vector;
  v128.store(to, result);
  return 0;
}

/** Combines two lanes and stores the result at `to`. */
export function packedPd(op: u32, a: v128, b: v128, to: usize): i32 {
  if (flagless(op) && noDenormal64x2(b) && (op == SQRT || noDenormal64x2(a))) {
    let result: v128;
    switch (op) {
      case ADD: result = f64x2.add(a, b); break;
      case MUL: result = f64x2.mul(a, b); break;
      case SUB: result = f64x2.sub(a, b); break;
      case DIV: result = f64x2.div(a, b); break;
      case SQRT: result = f64x2.sqrt(b); break;
      case MIN: result = f64x2.pmin(b, a); break;
      case MAX: result = f64x2.pmax(b, a); break;
      default: result = f64x2.add(a, v128.xor(b, i64x2(i64.MIN_VALUE, 0))); break;
    }
    let exact = isZero64x2(result);
    if (op == MUL) exact = v128.and(exact, v128.or(isZero64x2(a), isZero64x2(b)));
    else if (op == DIV) exact = v128.and(exact, isZero64x2(a));
    else if (op == MIN || op == MAX) exact = v128.and(exact, f64x2.eq(a, a));
    let safe = ordinary64x2(result);
    if (op == MIN || op == MAX) safe = v128.and(safe, f64x2.eq(a, a));
    if (i64x2.all_true(v128.or(safe, exact))) {
      v128.store(to, result);
      return 0;
    }
  }
  beginFloat();
  const result = i64x2(
    lane64(op == ADDSUB ? SUB : op, i64x2.extract_lane(a, 0), i64x2.extract_lane(b, 0)),
    lane64(op == ADDSUB ? ADD : op, i64x2.extract_lane(a, 1), i64x2.extract_lane(b, 1)),
  );
  const vector = endFloat();
  if (vector) return vector;
  v128.store(to, result);
  return 0;
}

function lane64(op: u32, a: u64, b: u64): u64 {
  switch (op) {
    case ADD: return f64Add(a, b);
    case MUL: return f64Mul(a, b);
    case SUB: return f64Sub(a, b);
    case DIV: return f64Div(a, b);
    case SQRT: return f64Sqrt(b);
  }
  // The second operand unless the first one is strictly smaller or larger: also for NaNs and equal zeros.
  const chosen = f64Compare(a, b, true) == (op == MIN ? -1 : 1) ? a : b;
  return sfDaz && !notDenormal64(chosen) ? chosen & 0x8000000000000000 : chosen;
}

function lane32(op: u32, a: u32, b: u32): u32 {
  switch (op) {
    case ADD: return f32Add(a, b);
    case MUL: return f32Mul(a, b);
    case SUB: return f32Sub(a, b);
    case DIV: return f32Div(a, b);
    case SQRT: return f32Sqrt(b);
  }
  const chosen = f32Compare(a, b, true) == (op == MIN ? -1 : 1) ? a : b;
  return sfDaz && !notDenormal32(chosen) ? chosen & 0x80000000 : chosen;
}
