/** 0F 10–5F and the floating-point instructions of 0F C2, 7C, 7D, D0, E6: moves and logic here, the rest by group. */
import { CODE_REGISTER, NP, P66, PF2, PF3, key } from "./code";
import { compareMask, compareOrdered } from "./float-compare";
import { convert } from "./convert";
import { arithmetic } from "./float-arithmetic";
import { horizontal } from "./float-horizontal";
import { reciprocal } from "./reciprocal";
import { moveScalar32, moveScalar64 } from "./moves";
import { packedInteger } from "./packed-integer";

export function execFloat(code: u32, reg: usize, rm: usize, imm: u32): i32 {
  switch (code & 0xff) {
    case 0x51:
    case 0x58:
    case 0x59:
    case 0x5c:
    case 0x5d:
    case 0x5e:
    case 0x5f: return arithmetic(code, reg, rm);
    case 0x2a:
    case 0x2c:
    case 0x2d:
    case 0x5a:
    case 0x5b:
    case 0xe6: return convert(code, reg, rm);
    case 0x2e:
    case 0x2f: return compareOrdered(code, reg, rm);
    case 0xc2: return compareMask(code, reg, rm, imm);
    case 0x52:
    case 0x53: return reciprocal(code, reg, rm);
    case 0x7c:
    case 0x7d:
    case 0xd0: return horizontal(code, reg, rm);
    case 0x54: v128.store(reg, v128.and(v128.load(reg), v128.load(rm))); return 0;
    case 0x55: v128.store(reg, v128.andnot(v128.load(rm), v128.load(reg))); return 0;
    case 0x56: v128.store(reg, v128.or(v128.load(reg), v128.load(rm))); return 0;
    case 0x57: v128.store(reg, v128.xor(v128.load(reg), v128.load(rm))); return 0;
  }
  return move(code, reg, rm);
}

function move(code: u32, reg: usize, rm: usize): i32 {
  switch (key(code)) {
    case NP + 0x10:
    case P66 + 0x10:
    case NP + 0x28:
    case P66 + 0x28: v128.store(reg, v128.load(rm)); return 0;
    case NP + 0x11:
    case P66 + 0x11:
    case NP + 0x29:
    case P66 + 0x29:
    case NP + 0x2b:
    case P66 + 0x2b: v128.store(rm, v128.load(reg)); return 0;
    case PF3 + 0x10: moveScalar32(code, reg, rm); return 0;
    case PF2 + 0x10: moveScalar64(code, reg, rm); return 0;
    case PF3 + 0x11: store<u32>(rm, load<u32>(reg)); return 0;
    case PF2 + 0x11: store<u64>(rm, load<u64>(reg)); return 0;
    case NP + 0x12: store<u64>(reg, loadHalf(code, rm, 8)); return 0; // movlps, movhlps
    case P66 + 0x12: store<u64>(reg, load<u64>(rm)); return 0;
    case PF3 + 0x12: v128.store(reg, duplicateDwords(v128.load(rm), false)); return 0; // movsldup
    case PF3 + 0x16: v128.store(reg, duplicateDwords(v128.load(rm), true)); return 0; // movshdup
    case PF2 + 0x12: v128.store(reg, v128.load64_splat(rm)); return 0; // movddup
    case NP + 0x13:
    case P66 + 0x13: store<u64>(rm, load<u64>(reg)); return 0;
    case NP + 0x16: // movhps, movlhps
    case P66 + 0x16: store<u64>(reg, load<u64>(rm), 8); return 0;
    case NP + 0x17:
    case P66 + 0x17: store<u64>(rm, load<u64>(reg, 8)); return 0;
    case NP + 0x14: v128.store(reg, packedInteger(0x62, v128.load(reg), v128.load(rm))); return 0;
    case NP + 0x15: v128.store(reg, packedInteger(0x6a, v128.load(reg), v128.load(rm))); return 0;
    case P66 + 0x14: v128.store(reg, packedInteger(0x6c, v128.load(reg), v128.load(rm))); return 0;
    case P66 + 0x15: v128.store(reg, packedInteger(0x6d, v128.load(reg), v128.load(rm))); return 0;
    case NP + 0x50: store<u64>(reg, i32x4.bitmask(v128.load(rm))); return 0;
    case P66 + 0x50: store<u64>(reg, i64x2.bitmask(v128.load(rm))); return 0;
    default: return 6;
  }
}

/** MOVHLPS takes the upper half of a register, MOVLPS the operand in memory. */
// @ts-ignore: decorator
@inline
function loadHalf(code: u32, rm: usize, upper: usize): u64 {
  return load<u64>(code & CODE_REGISTER ? rm + upper : rm);
}

function duplicateDwords(value: v128, odd: bool): v128 {
  return odd ? i32x4.shuffle(value, value, 1, 1, 3, 3) : i32x4.shuffle(value, value, 0, 0, 2, 2);
}
