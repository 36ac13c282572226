// Passes over a decoded block: compare-and-branch pairs are joined, flags that nobody can see are not computed.
import * as o from "./ops";
import { RECORD } from "./state";

/** The flagless twin of a register operation that sets every flag or, rotating, some; 0 where there is none. */
function quietTwin(op: u32): u32 {
  if (op < 32 && (op & 3) >= 2) { // ALU on registers, 32 and 64 bits
    const wide = (op & 3) - 2;
    switch (op >> 2) {
      case 0: return o.OP_QUIET + wide;
      case 1: return o.OP_QUIET + 2 + wide;
      case 4: return o.OP_QUIET + 4 + wide;
      case 5: return o.OP_QUIET + 6 + wide;
      case 6: return o.OP_QUIET + 8 + wide;
      default: return 0;
    }
  }
  if (op >= o.OP_SHL_I && op < o.OP_SHL_I + 6) return o.OP_QUIET_SHIFT + op - o.OP_SHL_I;
  if (op >= o.OP_ROL_I && op < o.OP_ROL_I + 4) return o.OP_QUIET_ROTATE + op - o.OP_ROL_I;
  return 0;
}

/** The operation a flagless one stands for. */
export function loudTwin(op: u32): u32 {
  if (op >= o.OP_QUIET_ROTATE) return o.OP_ROL_I + op - o.OP_QUIET_ROTATE;
  if (op >= o.OP_QUIET_SHIFT) return o.OP_SHL_I + op - o.OP_QUIET_SHIFT;
  const index = op - o.OP_QUIET;
  const alu: u32 = index < 2 ? 0 : index < 4 ? 1 : (index >> 1) + 2;
  return o.OP_ALU_RR + alu * 4 + 2 + (index & 1);
}

/** Register operations that set all flags whatever they were. */
function setsAllFlags(op: u32): bool {
  if (op < 36) return op >> 2 != 2 && op >> 2 != 3; // ADC and SBB read CF
  return op >= o.OP_SHL_I && op < o.OP_SHL_I + 6 || op >= o.OP_NEG_R && op < o.OP_NEG_R + 2 || op >= o.OP_FUSED_CMP64 && op < o.OP_FUSED_END;
}

/** Operations that neither touch flags nor fault. */
function isTransparent(op: u32): bool {
  return op >= o.OP_MOV_RR && op < o.OP_MOV_RM || op == o.OP_MOVZX8_RR || op == o.OP_MOVZX16_RR || op >= o.OP_MOVSX_RR && op < o.OP_MOVSX_RM ||
    op == o.OP_LEA64 || op == o.OP_LEA32 || op >= o.OP_NOT_R && op < o.OP_NEG_R || op == o.OP_NOP || op >= o.OP_EA64 && op <= o.OP_EA_IMM ||
    op >= o.OP_CDQE && op < o.OP_QUIET;
}

/** Replaces operations whose flags nobody can see: set again further on, with nothing between that reads them or may fault. */
export function deadFlags(block: usize, to: usize): void {
  let isDead = false;
  for (let d = to - RECORD; d >= block; d -= RECORD) {
    const op = <u32>load<u16>(d);
    const twin = isDead ? quietTwin(op) : 0;
    if (twin) store<u16>(d, <u16>twin);
    if (setsAllFlags(op)) isDead = true;
    else if (!twin && !isTransparent(op)) isDead = false;
  }
}

/** Joins a register compare or test with the conditional jump decoded after it, which ends the block. */
export function fuse(block: usize, to: usize): void {
  if (to < block + 2 * RECORD) return;
  const last = to - RECORD;
  const cc = <u32>load<u16>(last) - o.OP_JCC;
  if (cc > 15) return;
  switch (<u32>load<u16>(last - RECORD)) {
    case o.OP_ALU_RR + o.ALU_CMP * 4 + 3: store<u16>(last - RECORD, <u16>(o.OP_FUSED_CMP64 + cc)); break;
    case o.OP_ALU_RR + o.ALU_CMP * 4 + 2: store<u16>(last - RECORD, <u16>(o.OP_FUSED_CMP32 + cc)); break;
    case o.OP_ALU_RR + o.ALU_TEST * 4 + 3: store<u16>(last - RECORD, <u16>(o.OP_FUSED_TEST64 + cc)); break;
    case o.OP_ALU_RR + o.ALU_TEST * 4 + 2: store<u16>(last - RECORD, <u16>(o.OP_FUSED_TEST32 + cc)); break;
    default: break;
  }
}
