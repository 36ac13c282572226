/** Instructions of the 0F 38 and 0F 3A maps. */
import { aesKeyAssist, carrylessMultiply } from "./aes";
import { CODE_REXW } from "./code";
import { UD } from "./exec";
import { dotPd, dotPs } from "./float-horizontal";
import { setZPC } from "./flags-hook";
import { qwordAt, dwordAt } from "./lanes";
import { enterMmx, storeMmx } from "./mmx-state";
import { storeGeneral } from "./moves";
import { extend, packed38, ssse3Mmx } from "./packed-integer-38";
import { roundPd, roundPs, roundSd, roundSs } from "./round";
import {
  alignRight,
  alignRightMmx,
  blendDwords,
  blendQwords,
  blendWords,
  extractByte,
  extractWord,
  insertPs,
  multipleSums,
} from "./shuffles";
import { compareStrings } from "./strings";

export function exec38(code: u32, reg: usize, rm: usize): i32 {
  const op = code & 0xff;
  if ((code & 0x3000) == 0) {
    const result = ssse3Mmx(op, v128.load64_zero(reg), v128.load64_zero(rm));
    storeMmx(reg, <u64>i64x2.extract_lane(result, 0));
    enterMmx();
    return 0;
  }
  if (op == 0x17) {
    const a = v128.load(reg);
    const b = v128.load(rm);
    setZPC(!v128.any_true(v128.and(a, b)), false, !v128.any_true(v128.andnot(b, a)), false, false);
    return 0;
  }
  if ((op & 0xe8) == 0x20 && (op & 7) < 6) {
    v128.store(reg, extend(op, rm));
    return 0;
  }
  v128.store(reg, packed38(op, v128.load(reg), v128.load(rm)));
  return 0;
}

export function exec3A(code: u32, reg: usize, rm: usize, imm: u32): i32 {
  const op = code & 0xff;
  switch (op) {
    case 0x08: return roundPs(reg, rm, imm);
    case 0x09: return roundPd(reg, rm, imm);
    case 0x0a: return roundSs(reg, rm, imm);
    case 0x0b: return roundSd(reg, rm, imm);
    case 0x0c: v128.store(reg, blendDwords(v128.load(reg), v128.load(rm), imm)); return 0;
    case 0x0d: v128.store(reg, blendQwords(v128.load(reg), v128.load(rm), imm)); return 0;
    case 0x0e: v128.store(reg, blendWords(v128.load(reg), v128.load(rm), imm)); return 0;
    case 0x0f:
      if ((code & 0x3000) == 0) {
        storeMmx(reg, alignRightMmx(load<u64>(reg), load<u64>(rm), imm));
        enterMmx();
      } else {
        v128.store(reg, alignRight(v128.load(reg), v128.load(rm), imm));
      }
      return 0;
    case 0x14: extractByte(code, reg, rm, imm); return 0;
    case 0x15: extractWord(code, reg, rm, imm); return 0;
    case 0x16: {
      const from = v128.load(reg);
      storeGeneral(code, rm, code & CODE_REXW ? qwordAt(from, imm & 1) : <u64>dwordAt(from, imm & 3));
      return 0;
    }
    case 0x17: storeGeneral(code & ~CODE_REXW, rm, dwordAt(v128.load(reg), imm & 3)); return 0;
    case 0x20: store<u8>(reg + (imm & 15), load<u8>(rm)); return 0;
    case 0x21: insertPs(code, reg, rm, imm); return 0;
    case 0x22:
      if (code & CODE_REXW) store<u64>(reg + ((imm & 1) << 3), load<u64>(rm));
      else store<u32>(reg + ((imm & 3) << 2), load<u32>(rm));
      return 0;
    case 0x40: return dotPs(reg, rm, imm);
    case 0x41: return dotPd(reg, rm, imm);
    case 0x42: v128.store(reg, multipleSums(v128.load(reg), v128.load(rm), imm)); return 0;
    case 0x44: v128.store(reg, carrylessMultiply(v128.load(reg), v128.load(rm), imm)); return 0;
    case 0x60:
    case 0x61:
    case 0x62:
    case 0x63: compareStrings(op, code, v128.load(reg), v128.load(rm), imm); return 0;
    case 0xdf: v128.store(reg, aesKeyAssist(v128.load(rm), imm)); return 0;
    default: return UD;
  }
}
