/** CMPPS and its forms, COMISS, UCOMISS and their forms (Intel SDM vol. 2). */
import { f32Compare } from "../softfloat/f32";
import { f64Compare } from "../softfloat/f64";
import { setZPC } from "./flags-hook";
import { beginFloat, endFloat, noDenormal32x4, noDenormal64x2, noNaN32x4, noNaN64x2, notDenormal32, notDenormal64 } from "./mxcsr";

const LESS: i32 = -1;
const EQUAL: i32 = 0;
const GREATER: i32 = 1;
const UNORDERED: i32 = 2;

/** LT, LE, NLT and NLE are invalid on quiet NaNs too. */
// @ts-ignore: decorator
@inline
function signalling(predicate: u32): bool {
  return ((predicate + 1) & 2) != 0;
}

/** Whether a comparison's outcome satisfies imm8[2:0]: EQ, LT, LE, UNORD and their negations. */
function satisfies(relation: i32, predicate: u32): bool {
  let holds: bool;
  switch (predicate & 3) {
    case 0: holds = relation == EQUAL; break;
    case 1: holds = relation == LESS; break;
    case 2: holds = relation == LESS || relation == EQUAL; break;
    default: holds = relation == UNORDERED; break;
  }
  return holds != ((predicate & 4) != 0);
}

function lane32(a: u32, b: u32, predicate: u32): u32 {
  return satisfies(f32Compare(a, b, signalling(predicate)), predicate) ? <u32>-1 : 0;
}

function lane64(a: u64, b: u64, predicate: u32): u64 {
  return satisfies(f64Compare(a, b, signalling(predicate)), predicate) ? <u64>-1 : 0;
}

/** CMPPS, CMPPD, CMPSS, CMPSD. */
export function compareMask(code: u32, reg: usize, rm: usize, imm: u32): i32 {
  const predicate = imm & 7;
  switch ((code >> 12) & 3) {
    case 0:
      return comparePs(reg, v128.load(reg), v128.load(rm), predicate);
    case 1:
      return comparePd(reg, v128.load(reg), v128.load(rm), predicate);
    case 2:
      return compareSs(reg, load<u32>(reg), load<u32>(rm), predicate);
    default:
      return compareSd(reg, load<u64>(reg), load<u64>(rm), predicate);
  }
}

function comparePs(reg: usize, a: v128, b: v128, predicate: u32): i32 {
  if (noNaN32x4(a) && noNaN32x4(b) && noDenormal32x4(a) && noDenormal32x4(b)) {
    let mask: v128;
    switch (predicate & 3) {
      case 0: mask = f32x4.eq(a, b); break;
      case 1: mask = f32x4.lt(a, b); break;
      case 2: mask = f32x4.le(a, b); break;
      default: mask = i64x2.splat(0); break;
    }
    v128.store(reg, predicate & 4 ? v128.not(mask) : mask);
    return 0;
  }
  beginFloat();
  const mask = i32x4(
    lane32(i32x4.extract_lane(a, 0), i32x4.extract_lane(b, 0), predicate),
    lane32(i32x4.extract_lane(a, 1), i32x4.extract_lane(b, 1), predicate),
    lane32(i32x4.extract_lane(a, 2), i32x4.extract_lane(b, 2), predicate),
    lane32(i32x4.extract_lane(a, 3), i32x4.extract_lane(b, 3), predicate),
  );
  const vector = endFloat();
  if (vector) return vector;
  v128.store(reg, mask);
  return 0;
}

function comparePd(reg: usize, a: v128, b: v128, predicate: u32): i32 {
  if (noNaN64x2(a) && noNaN64x2(b) && noDenormal64x2(a) && noDenormal64x2(b)) {
    let mask: v128;
    switch (predicate & 3) {
      case 0: mask = f64x2.eq(a, b); break;
      case 1: mask = f64x2.lt(a, b); break;
      case 2: mask = f64x2.le(a, b); break;
      default: mask = i64x2.splat(0); break;
    }
    v128.store(reg, predicate & 4 ? v128.not(mask) : mask);
    return 0;
  }
  beginFloat();
  const mask = i64x2(
    lane64(i64x2.extract_lane(a, 0), i64x2.extract_lane(b, 0), predicate),
    lane64(i64x2.extract_lane(a, 1), i64x2.extract_lane(b, 1), predicate),
  );
  const vector = endFloat();
  if (vector) return vector;
  v128.store(reg, mask);
  return 0;
}

function compareSs(reg: usize, a: u32, b: u32, predicate: u32): i32 {
  const x = reinterpret<f32>(a);
  const y = reinterpret<f32>(b);
  if (x == x && y == y && notDenormal32(a) && notDenormal32(b)) {
    const relation = x == y ? EQUAL : x < y ? LESS : GREATER;
    store<u32>(reg, satisfies(relation, predicate) ? <u32>-1 : 0);
    return 0;
  }
  beginFloat();
  const mask = lane32(a, b, predicate);
  const vector = endFloat();
  if (vector) return vector;
  store<u32>(reg, mask);
  return 0;
}

function compareSd(reg: usize, a: u64, b: u64, predicate: u32): i32 {
  const x = reinterpret<f64>(a);
  const y = reinterpret<f64>(b);
  if (x == x && y == y && notDenormal64(a) && notDenormal64(b)) {
    const relation = x == y ? EQUAL : x < y ? LESS : GREATER;
    store<u64>(reg, satisfies(relation, predicate) ? <u64>-1 : 0);
    return 0;
  }
  beginFloat();
  const mask = lane64(a, b, predicate);
  const vector = endFloat();
  if (vector) return vector;
  store<u64>(reg, mask);
  return 0;
}

/** UCOMISS, UCOMISD (2E), COMISS, COMISD (2F). */
export function compareOrdered(code: u32, reg: usize, rm: usize): i32 {
  const quietInvalid = (code & 1) != 0;
  if ((code & 0x3000) == 0) {
    const a = load<u32>(reg);
    const b = load<u32>(rm);
    const x = reinterpret<f32>(a);
    const y = reinterpret<f32>(b);
    if (x == x && y == y && notDenormal32(a) && notDenormal32(b)) {
      setZPC(x == y, false, x < y, false, false);
      return 0;
    }
    beginFloat();
    return setRelation(f32Compare(a, b, quietInvalid));
  }
  const a = load<u64>(reg);
  const b = load<u64>(rm);
  const x = reinterpret<f64>(a);
  const y = reinterpret<f64>(b);
  if (x == x && y == y && notDenormal64(a) && notDenormal64(b)) {
    setZPC(x == y, false, x < y, false, false);
    return 0;
  }
  beginFloat();
  return setRelation(f64Compare(a, b, quietInvalid));
}

function setRelation(relation: i32): i32 {
  const vector = endFloat();
  if (vector) return vector;
  const unordered = relation == UNORDERED;
  setZPC(unordered || relation == EQUAL, unordered, unordered || relation == LESS, false, false);
  return 0;
}
