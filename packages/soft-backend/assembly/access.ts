// How a decoded instruction uses its memory operand: what the segment check of its address has to know.
import * as o from "./ops";
import { SSE_MODIFIES, SSE_SIZE_SHIFT, SSE_STORES } from "./decode-0f";
import { opOf, dstOf, immOf } from "./state";
import { x87Info } from "./x87";

/** Beside the number of bytes: the operand is written. */
export const WRITES: u32 = 0x10000;

/** The address is computed once more by the instruction, and checked only then. */
export const LATER: u32 = 0x20000;

/** Bytes record `r` accesses at its effective address, with WRITES; 0: none, or ones that it checks itself. */
export function accessOf(r: usize): u32 {
  const op = opOf(r);
  const bytes: u32 = 1 << (op & 3);
  if (op >= o.SLOW) return slowAccess(r, (op - o.SLOW) >> 2, bytes);
  if (op < o.OP_ALU_RM) return 0;
  if (op < o.OP_ALU_MR) return bytes;
  if (op < o.OP_MOV_RR) return op >= o.OP_ALU_MR + o.ALU_CMP * 4 ? bytes : bytes | WRITES;
  if (op < o.OP_MOV_RM) return 0;
  if (op < o.OP_MOV_MR) return bytes;
  if (op < o.OP_MOVZX8_RR) return bytes | WRITES;
  if (op >= o.OP_INC_M && op < o.OP_SHL_I) return (1 << ((op - o.OP_INC_M) & 3)) | WRITES;
  switch (op) {
    case o.OP_MOVZX8_RM: case o.OP_MOVSX_RM: case o.OP_MOVSX_RM + 1: return 1;
    case o.OP_MOVZX16_RM: case o.OP_MOVSX_RM + 2: case o.OP_MOVSX_RM + 3: return 2;
    case o.OP_MOVSX_RM + 4: case o.OP_CMOV32_M: return 4;
    case o.OP_CMOV64_M: return 8;
    case o.OP_MOVDQU_RM: case o.OP_MOVDQA_RM: return 16;
    case o.OP_MOVDQU_MR: case o.OP_MOVDQA_MR: return 16 | WRITES;
    default: return 0;
  }
}

function slowAccess(r: usize, id: u32, bytes: u32): u32 {
  if (id >= o.S_SHIFT && id < o.S_XCHG) return bytes | WRITES;
  switch (id) {
    case o.S_MUL: case o.S_IMUL1: case o.S_DIV: case o.S_IDIV: case o.S_BSF: case o.S_BSR: case o.S_POPCNT: case o.S_IMUL2:
    case o.S_IMUL3: case o.S_CMOV: case o.S_MOVZX: case o.S_MOVSX: case o.S_CRC32: case o.S_PUSH: case o.S_CALL_RM: case o.S_JMP_RM:
      return bytes;
    case o.S_POP: return bytes | WRITES | LATER;
    case o.S_NOT: case o.S_NEG: case o.S_XCHG: case o.S_XADD: case o.S_CMPXCHG: case o.S_SHLD: case o.S_SHRD: case o.S_SETCC:
      return bytes | WRITES;
    case o.S_BT: return dstOf(r) ? 0 : bytes;
    case o.S_BT + 1: case o.S_BT + 2: case o.S_BT + 3: return dstOf(r) ? 0 : bytes | WRITES;
    case o.S_MOVBE: return immOf(r) ? bytes | WRITES : bytes;
    case o.S_CALL_FAR: case o.S_JMP_FAR: case o.S_LOAD_FAR: return bytes + 2;
    case o.S_MOV_TO_SEG: case o.S_LMSW: case o.S_LLDT: case o.S_LTR: case o.S_VERR: case o.S_VERW: case o.S_LAR: case o.S_LSL: return 2;
    case o.S_MOV_FROM_SEG: case o.S_SMSW: case o.S_SLDT: case o.S_STR: case o.S_ARPL: return 2 | WRITES;
    case o.S_LGDT: case o.S_LIDT: return 6;
    case o.S_SGDT: case o.S_SIDT: return 6 | WRITES;
    case o.S_CMPXCHG8B: return 8 | WRITES;
    case o.S_CLFLUSH: return 1;
    case o.S_BOUND: return 2 * bytes;
    case o.S_LDMXCSR: return 4;
    case o.S_STMXCSR: return 4 | WRITES;
    case o.S_FXSAVE: return 512 | WRITES;
    case o.S_FXRSTOR: return 512;
    case o.S_XSAVE: return (immOf(r) & 7) == 5 ? 576 : 576 | WRITES;
    case o.S_X87: {
      const imm = <u32>immOf(r);
      const info = x87Info(imm & 0xff, (imm >> 8) & 0xff, (imm & 0x10000) != 0);
      return (info & 0xff) | (info & 0x100 ? WRITES : 0);
    }
    case o.S_SSE: {
      const imm = immOf(r);
      return (<u32>(imm >> SSE_SIZE_SHIFT) & 0xff) | (imm & (SSE_STORES | SSE_MODIFIES) ? WRITES : 0);
    }
    default: return 0;
  }
}
