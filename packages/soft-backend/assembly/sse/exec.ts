/** Execution of one MMX or SSE instruction on host addresses. */
import { NP, PF2, PF3, key } from "./code";
import { execFloat } from "./exec-float";
import { execMmx } from "./exec-mmx";
import { exec38, exec3A } from "./exec-three-byte";
import { selectDwords, selectHighWords, selectLowWords, shiftBytesDown, shiftBytesUp, wordAt } from "./lanes";
import { enterMmx, storeMmx } from "./mmx-state";
import { loadGeneral, maskedStore, storeGeneral, storeQuad } from "./moves";
import { packedInteger, shiftImmediate } from "./packed-integer";
import { shufflePd, shufflePs } from "./shuffles";

/** Exception vectors that an instruction can end in. */
export const UD = 6;
export const XM = 19;

/**
 * Executes one instruction for which `sseInfo` is not 0.
 * @param code opcode | map << 8 | mandatory prefix << 12 | REX.W << 14 | (r/m is a register) << 15 | ModRM.reg << 16
 * @param reg address of the register named by ModRM.reg
 * @param rm address of the r/m operand: a register, or as many bytes of memory as `sseInfo` says
 * @param imm the immediate; for MASKMOVQ and MASKMOVDQU the address of 8 or 16 bytes at DS:rDI
 * @returns 0, or the exception vector, and then no operand has been written
 */
export function sseExec(code: u32, reg: usize, rm: usize, imm: u32): i32 {
  switch ((code >> 8) & 15) {
    case 1:
      if ((code & 0xff) < 0x60) return execFloat(code, reg, rm, imm);
      if ((code & 0x3000) == 0x1000) return execInteger(code, reg, rm, imm);
      return execOther(code, reg, rm, imm);
    case 2:
      return exec38(code, reg, rm);
    default:
      return exec3A(code, reg, rm, imm);
  }
}

/** 66 0F 60–FF. */
function execInteger(code: u32, reg: usize, rm: usize, imm: u32): i32 {
  const op = code & 0xff;
  switch (op) {
    case 0x6e: v128.store(reg, i64x2(<i64>loadGeneral(code, rm), 0)); return 0;
    case 0x6f: v128.store(reg, v128.load(rm)); return 0;
    case 0x70: v128.store(reg, selectDwords(v128.load(rm), imm)); return 0;
    case 0x71:
    case 0x72:
    case 0x73: execShift(op, (code >> 16) & 7, rm, imm); return 0;
    case 0x7e: storeGeneral(code, rm, load<u64>(reg)); return 0;
    case 0x7f: v128.store(rm, v128.load(reg)); return 0;
    case 0xc4: store<u16>(reg + ((imm & 7) << 1), load<u16>(rm)); return 0;
    case 0xc5: store<u64>(reg, wordAt(v128.load(rm), imm & 7)); return 0;
    case 0xc6: v128.store(reg, shufflePd(v128.load(reg), v128.load(rm), imm)); return 0;
    case 0xd6: storeQuad(code, reg, rm); return 0;
    case 0xd7: store<u64>(reg, i8x16.bitmask(v128.load(rm))); return 0;
    case 0xe7: v128.store(rm, v128.load(reg)); return 0;
    case 0xf7: maskedStore(reg, rm, imm); return 0;
    case 0x7c:
    case 0x7d:
    case 0xc2:
    case 0xd0:
    case 0xe6: return execFloat(code, reg, rm, imm);
  }
  v128.store(reg, packedInteger(op, v128.load(reg), v128.load(rm)));
  return 0;
}

/** Shifts of an XMM register by an immediate. */
function execShift(op: u32, operation: u32, register: usize, imm: u32): void {
  const value = v128.load(register);
  if (op == 0x73 && operation & 1) {
    v128.store(register, operation == 3 ? shiftBytesDown(value, imm) : shiftBytesUp(value, imm));
  } else {
    v128.store(register, shiftImmediate(op, operation, value, imm));
  }
}

/** 0F 60–FF with another prefix than 66. */
function execOther(code: u32, reg: usize, rm: usize, imm: u32): i32 {
  switch (key(code)) {
    case PF3 + 0x6f: v128.store(reg, v128.load(rm)); return 0;
    case PF3 + 0x7f: v128.store(rm, v128.load(reg)); return 0;
    case PF3 + 0x7e: v128.store(reg, v128.load64_zero(rm)); return 0;
    case PF3 + 0x70: v128.store(reg, selectHighWords(v128.load(rm), imm)); return 0;
    case PF2 + 0x70: v128.store(reg, selectLowWords(v128.load(rm), imm)); return 0;
    case PF2 + 0xf0: v128.store(reg, v128.load(rm)); return 0;
    case NP + 0xc3: storeGeneral(code, rm, load<u64>(reg)); return 0;
    case NP + 0xc6: v128.store(reg, shufflePs(v128.load(reg), v128.load(rm), imm)); return 0;
    case PF3 + 0xd6: // movq2dq
      v128.store(reg, v128.load64_zero(rm));
      enterMmx();
      return 0;
    case PF2 + 0xd6: // movdq2q
      storeMmx(reg, load<u64>(rm));
      enterMmx();
      return 0;
    case NP + 0xc2: return execFloat(code, reg, rm, imm);
  }
  if ((code & 0x3000) == 0) return execMmx(code, reg, rm, imm);
  return execFloat(code, reg, rm, imm);
}
