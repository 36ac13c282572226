/** HADDPS, HSUBPS, ADDSUBPS (SSE3), DPPS, DPPD (SSE4.1) and their forms (Intel SDM vol. 2). */
import { f32Add, f32Mul } from "../softfloat/f32";
import { f64Add, f64Mul } from "../softfloat/f64";
import { ADD, ADDSUB, SUB, packedPd, packedPs } from "./float-arithmetic";
import { beginFloat, endFloat } from "./mxcsr";

export function horizontal(code: u32, reg: usize, rm: usize): i32 {
  const a = v128.load(reg);
  const b = v128.load(rm);
  const op = code & 0xff;
  const doubles = (code & 0x3000) == 0x1000;
  if (op == 0xd0) return doubles ? packedPd(ADDSUB, a, b, reg) : packedPs(ADDSUB, a, b, reg);
  const operation = op == 0x7c ? ADD : SUB;
  if (doubles) return packedPd(operation, i64x2.shuffle(a, b, 0, 2), i64x2.shuffle(a, b, 1, 3), reg);
  return packedPs(operation, i32x4.shuffle(a, b, 0, 2, 4, 6), i32x4.shuffle(a, b, 1, 3, 5, 7), reg);
}

/** DPPS: imm8[7:4] chooses the products, imm8[3:0] the lanes that receive their sum; the others become 0. */
export function dotPs(reg: usize, rm: usize, imm: u32): i32 {
  beginFloat();
  const p0 = imm & 0x10 ? f32Mul(load<u32>(reg), load<u32>(rm)) : 0;
  const p1 = imm & 0x20 ? f32Mul(load<u32>(reg, 4), load<u32>(rm, 4)) : 0;
  const p2 = imm & 0x40 ? f32Mul(load<u32>(reg, 8), load<u32>(rm, 8)) : 0;
  const p3 = imm & 0x80 ? f32Mul(load<u32>(reg, 12), load<u32>(rm, 12)) : 0;
  let vector = endFloat();
  if (vector) return vector;
  const low = f32Add(p0, p1);
  const high = f32Add(p2, p3);
  vector = endFloat();
  if (vector) return vector;
  const sum = f32Add(low, high);
  vector = endFloat();
  if (vector) return vector;
  v128.store(reg, i32x4(imm & 1 ? sum : 0, imm & 2 ? sum : 0, imm & 4 ? sum : 0, imm & 8 ? sum : 0));
  return 0;
}

/** DPPD. */
export function dotPd(reg: usize, rm: usize, imm: u32): i32 {
  beginFloat();
  const p0 = imm & 0x10 ? f64Mul(load<u64>(reg), load<u64>(rm)) : 0;
  const p1 = imm & 0x20 ? f64Mul(load<u64>(reg, 8), load<u64>(rm, 8)) : 0;
  let vector = endFloat();
  if (vector) return vector;
  const sum = f64Add(p0, p1);
  vector = endFloat();
  if (vector) return vector;
  v128.store(reg, i64x2(imm & 1 ? <i64>sum : 0, imm & 2 ? <i64>sum : 0));
  return 0;
}
