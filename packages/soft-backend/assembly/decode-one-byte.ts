// Decoder, part 2: the one-byte opcode map (SDM 2, appendix A).
import { GPR, ZERO } from "../src/cpu/layout";
import { endSerialized } from "./decode";
import * as o from "./ops";
import {
  absolute, addressSize, allowLock, cpuMode, emit, emitSlow, end, fetch16, fetch32, fetch64, fetch8, fetchImm, fetchS8, ignoreSegment, imm,
  is66, isMemory, modrm, modrmByte, operandSize, reg, regOperand, register, rep, rex, rmOperand, segmentBase, setDst, setImm, setImmSource,
  setSrc, undefined_,
} from "./record";
import { CS, DS, ES, MODE_64, mode } from "./state";
import { x87Info } from "./x87";

/** ALU operation with modrm: `form` 0 r/m ← reg, 1 reg ← r/m. */
function alu(op: u32, size: u32, isToReg: bool): void {
  modrm();
  if (isMemory) {
    if (isToReg) { setDst(regOperand(size)); emit(o.OP_ALU_RM + op * 4 + size); }
    else {
      setSrc(regOperand(size));
      if (op == o.ALU_CMP || op == o.ALU_TEST) emit(o.OP_ALU_MR + op * 4 + size);
      else { allowLock(); emit(o.OP_ALU_MR + op * 4 + size); }
    }
    return;
  }
  setDst(isToReg ? regOperand(size) : rmOperand(size));
  setSrc(isToReg ? rmOperand(size) : regOperand(size));
  emit(o.OP_ALU_RR + op * 4 + size);
}

/** ALU operation of r/m (already read) with an immediate. */
function aluImm(op: u32, size: u32, value: i64): void {
  if (!isMemory) setDst(rmOperand(size));
  else if (op != o.ALU_CMP && op != o.ALU_TEST) allowLock();
  setImmSource(value);
  emit((isMemory ? o.OP_ALU_MR : o.OP_ALU_RR) + op * 4 + size);
}

export function stackSize(): u32 { return cpuMode == MODE_64 ? (is66 && !(rex & 8) ? 1 : 3) : operandSize; }

function pushRegister(p: usize): void {
  setSrc(p);
  if (stackSize() == 3) emit(o.OP_PUSH64);
  else emitSlow(o.S_PUSH, stackSize());
}

/** r/m as the source pointer of a slow operation: the register, or 0 for memory. */
function rmSource(size: u32): void { setSrc(isMemory ? 0 : rmOperand(size)); }

function stringOp(id: u32, size: u32): void {
  setImm(<i64>(rep | (addressSize << 2)));
  setSrc(id == o.S_STOS || id == o.S_SCAS || id == o.S_INS ? ZERO : segmentBase(DS));
  emitSlow(id, size);
  if (rep || id == o.S_INS || id == o.S_OUTS) endSerialized();
}

function relative(size: u32): i64 {
  if (size == 0) return fetchS8();
  return cpuMode == MODE_64 || operandSize != 1 ? <i64><i32>fetch32() : <i64><i16>fetch16();
}

export function decodeOneByte(opcode: u32): void {
  const wide: u32 = opcode & 1 ? operandSize : 0;
  const is64 = cpuMode == MODE_64;
  if (opcode < 0x40) {
    const op = opcode >> 3;
    switch (opcode & 7) {
      case 0: case 1: alu(op, wide, false); return;
      case 2: case 3: alu(op, wide, true); return;
      case 4: case 5:
        setDst(GPR);
        setImmSource(fetchImm(wide));
        emit(o.OP_ALU_RR + op * 4 + wide);
        return;
      default: decodeSegmentOrBcd(opcode); return;
    }
  }
  switch (opcode >> 3) {
    case 8: case 9: // INC/DEC r (40–4F are REX in 64-bit mode)
      setDst(register(opcode & 7, operandSize));
      emit((opcode & 8 ? o.OP_DEC_R : o.OP_INC_R) + operandSize);
      return;
    case 10: pushRegister(GPR + (((opcode & 7) | ((rex & 1) << 3)) << 3)); return;
    case 11: {
      setDst(GPR + (((opcode & 7) | ((rex & 1) << 3)) << 3));
      if (stackSize() == 3) emit(o.OP_POP64);
      else { setSrc(GPR + (((opcode & 7) | ((rex & 1) << 3)) << 3)); emitSlow(o.S_POP, stackSize()); }
      return;
    }
    case 14: case 15: jcc(opcode & 15, relative(0)); return;
    case 18: // XCHG rAX, r
      if (opcode == 0x90 && !(rex & 1)) {
        if (rep == 1) { emitSlow(o.S_PAUSE, 0); endSerialized(); } else emit(o.OP_NOP);
        return;
      }
      setDst(register(0, operandSize));
      setSrc(register((opcode & 7) | ((rex & 1) << 3), operandSize));
      emitSlow(o.S_XCHG, operandSize);
      return;
    case 22: // MOV r8, imm8
      setDst(register((opcode & 7) | ((rex & 1) << 3), 0));
      setImmSource(<i64>fetch8());
      emit(o.OP_MOV_RR);
      return;
    case 23: // MOV r, imm
      setDst(register((opcode & 7) | ((rex & 1) << 3), operandSize));
      setImmSource(operandSize == 3 ? <i64>fetch64() : operandSize == 2 ? <i64>fetch32() : <i64>fetch16());
      emit(o.OP_MOV_RR + operandSize);
      return;
    case 27: x87(opcode); return;
    default: break;
  }
  switch (opcode) {
    case 0x60: case 0x61:
      if (is64) { undefined_(); return; }
      emitSlow(opcode == 0x60 ? o.S_PUSHA : o.S_POPA, operandSize);
      return;
    case 0x62:
      if (is64) { undefined_(); return; } // EVEX: not in our CPU model
      modrm();
      if (!isMemory) { undefined_(); return; }
      setDst(regOperand(operandSize));
      emitSlow(o.S_BOUND, operandSize);
      return;
    case 0x63:
      modrm();
      if (is64) { // MOVSXD
        if (operandSize != 3) { moveTo(operandSize); return; }
        setDst(regOperand(3));
        setSrc(isMemory ? 0 : rmOperand(2));
        emit((isMemory ? o.OP_MOVSX_RM : o.OP_MOVSX_RR) + 4);
        return;
      }
      setDst(regOperand(1));
      rmSource(1);
      emitSlow(o.S_ARPL, 1);
      return;
    case 0x68: case 0x6a:
      setImmSource(opcode == 0x6a ? fetchS8() : fetchImm(stackSize() == 3 ? 2 : stackSize()));
      if (stackSize() == 3) emit(o.OP_PUSH64);
      else emitSlow(o.S_PUSH, stackSize());
      return;
    case 0x69: case 0x6b: {
      modrm();
      setDst(regOperand(operandSize));
      rmSource(operandSize);
      setImm(opcode == 0x6b ? fetchS8() : fetchImm(operandSize));
      if (!isMemory && operandSize >= 2) emit(o.OP_IMUL_RRI + operandSize - 2);
      else emitSlow(o.S_IMUL3, operandSize);
      return;
    }
    case 0x6c: case 0x6d: stringOp(o.S_INS, min<u32>(wide, 2)); return;
    case 0x6e: case 0x6f: stringOp(o.S_OUTS, min<u32>(wide, 2)); return;
    case 0x80: case 0x81: case 0x82: case 0x83: {
      if (opcode == 0x82 && is64) { undefined_(); return; }
      modrm();
      const size = opcode & 1 ? operandSize : 0;
      aluImm((modrmByte >> 3) & 7, size, opcode == 0x81 ? fetchImm(size) : fetchS8());
      return;
    }
    case 0x84: case 0x85: alu(o.ALU_TEST, wide, false); return;
    case 0x86: case 0x87:
      modrm();
      allowLock();
      setDst(regOperand(wide));
      rmSource(wide);
      emitSlow(o.S_XCHG, wide);
      return;
    case 0x88: case 0x89:
      modrm();
      if (isMemory) { setSrc(regOperand(wide)); emit(o.OP_MOV_MR + wide); return; }
      setDst(rmOperand(wide));
      setSrc(regOperand(wide));
      emit(o.OP_MOV_RR + wide);
      return;
    case 0x8a: case 0x8b: modrm(); moveTo(wide); return;
    case 0x8c: // MOV r/m, Sreg
      modrm();
      if ((modrmByte >> 3 & 7) > 5) { undefined_(); return; }
      rmSource(operandSize);
      setImm((modrmByte >> 3) & 7);
      emitSlow(o.S_MOV_FROM_SEG, isMemory ? 1 : operandSize);
      return;
    case 0x8d:
      ignoreSegment();
      modrm();
      if (!isMemory) { undefined_(); return; }
      lea();
      return;
    case 0x8e: { // MOV Sreg, r/m
      modrm();
      const s = (modrmByte >> 3) & 7;
      if (s > 5 || s == CS) { undefined_(); return; }
      rmSource(1);
      setImm(s);
      emitSlow(o.S_MOV_TO_SEG, 1);
      endSerialized();
      return;
    }
    case 0x8f:
      modrm();
      if (modrmByte & 0x38) { undefined_(); return; }
      rmSource(stackSize());
      emitSlow(o.S_POP, stackSize());
      return;
    case 0x98:
      if (operandSize == 1) emitSlow(o.S_CBW, 1);
      else emit(operandSize == 3 ? o.OP_CDQE : o.OP_CWDE);
      return;
    case 0x99:
      if (operandSize == 1) emitSlow(o.S_CWD, 1);
      else emit(operandSize == 3 ? o.OP_CQO : o.OP_CDQ);
      return;
    case 0x9a: case 0xea: {
      if (is64) { undefined_(); return; }
      const offset: u64 = operandSize == 1 ? <u64>fetch16() : <u64>fetch32();
      setImm(<i64>(offset | (<u64>fetch16() << 32)));
      setSrc(1);
      emitSlow(opcode == 0x9a ? o.S_CALL_FAR : o.S_JMP_FAR, operandSize);
      end();
      return;
    }
    case 0x9b: emitSlow(o.S_FWAIT, 0); return;
    case 0x9c: emitSlow(o.S_PUSHF, stackSize()); return;
    case 0x9d: emitSlow(o.S_POPF, stackSize()); endSerialized(); return;
    case 0x9e: case 0x9f: emitSlow(opcode == 0x9e ? o.S_SAHF : o.S_LAHF, 0); return;
    case 0xa0: case 0xa1: absolute(); setDst(register(0, wide)); emit(o.OP_MOV_RM + wide); return;
    case 0xa2: case 0xa3: absolute(); setSrc(register(0, wide)); emit(o.OP_MOV_MR + wide); return;
    case 0xa4: case 0xa5: stringOp(o.S_MOVS, wide); return;
    case 0xa6: case 0xa7: stringOp(o.S_CMPS, wide); return;
    case 0xa8: case 0xa9:
      setDst(GPR);
      setImmSource(fetchImm(wide));
      emit(o.OP_ALU_RR + o.ALU_TEST * 4 + wide);
      return;
    case 0xaa: case 0xab: stringOp(o.S_STOS, wide); return;
    case 0xac: case 0xad: stringOp(o.S_LODS, wide); return;
    case 0xae: case 0xaf: stringOp(o.S_SCAS, wide); return;
    case 0xc0: case 0xc1: modrm(); shift(wide, <i64>(fetch8() & (wide == 3 ? 63 : 31))); return;
    case 0xd0: case 0xd1: modrm(); shift(wide, 1); return;
    case 0xd2: case 0xd3: modrm(); shift(wide, -1); return;
    case 0xc2: case 0xc3: {
      const extra: u32 = opcode == 0xc2 ? fetch16() : 0;
      setImm(<i64>extra);
      if (is64) emit(o.OP_RET);
      else emitSlow(o.S_RET, operandSize);
      end();
      return;
    }
    case 0xc4: case 0xc5: {
      if (is64) { undefined_(); return; } // VEX: not in our CPU model
      modrm();
      if (!isMemory) { undefined_(); return; }
      loadFar(opcode == 0xc4 ? ES : DS);
      return;
    }
    case 0xc6: case 0xc7:
      modrm();
      if (modrmByte & 0x38) { undefined_(); return; }
      if (!isMemory) setDst(rmOperand(wide));
      setImmSource(fetchImm(wide));
      emit((isMemory ? o.OP_MOV_MR : o.OP_MOV_RR) + wide);
      return;
    case 0xc8: {
      const size = <i64>fetch16();
      setImm(size | (<i64>(fetch8() & 31) << 16));
      emitSlow(o.S_ENTER, stackSize());
      return;
    }
    case 0xc9:
      if (stackSize() == 3) emit(o.OP_LEAVE64);
      else emitSlow(o.S_LEAVE, stackSize());
      return;
    case 0xca: case 0xcb:
      setImm(opcode == 0xca ? <i64>fetch16() : 0);
      emitSlow(o.S_RET_FAR, operandSize);
      end();
      return;
    case 0xcc: setImm(3); emitSlow(o.S_INT, 0); end(); return;
    case 0xcd: setImm(<i64>fetch8()); emitSlow(o.S_INT, 1); end(); return;
    case 0xce:
      if (is64) { undefined_(); return; }
      emitSlow(o.S_INTO, 0);
      endSerialized();
      return;
    case 0xcf: emitSlow(o.S_IRET, operandSize); end(); return;
    case 0xd4: case 0xd5:
      if (is64) { undefined_(); return; }
      setImm(<i64>(opcode | (fetch8() << 8)));
      emitSlow(o.S_BCD, 0);
      return;
    case 0xd6:
      if (is64) { undefined_(); return; }
      emitSlow(o.S_SALC, 0);
      return;
    case 0xd7: setSrc(segmentBase(DS)); setImm(<i64>addressSize); emitSlow(o.S_XLAT, 0); return;
    case 0xe0: case 0xe1: case 0xe2: case 0xe3: {
      setDst(<usize>(opcode - 0xe0));
      setSrc(<usize>addressSize);
      setImm(fetchS8());
      emitSlow(o.S_LOOP, operandSize);
      end();
      return;
    }
    case 0xe4: case 0xe5: case 0xe6: case 0xe7:
      setImm(<i64>fetch8());
      emitSlow(opcode < 0xe6 ? o.S_IN : o.S_OUT, min<u32>(wide, 2));
      endSerialized();
      return;
    case 0xec: case 0xed: case 0xee: case 0xef:
      setImm(-1);
      emitSlow(opcode < 0xee ? o.S_IN : o.S_OUT, min<u32>(wide, 2));
      endSerialized();
      return;
    case 0xe8:
      setImm(relative(1));
      setSrc(0);
      if (is64) emit(o.OP_CALL);
      else emitSlow(o.S_CALL, operandSize);
      end();
      return;
    case 0xe9: case 0xeb:
      setImm(relative(opcode == 0xe9 ? 1 : 0));
      if (is64) emit(o.OP_JMP);
      else emitSlow(o.S_JMP, operandSize);
      end();
      return;
    case 0xf1: setImm(1); emitSlow(o.S_INT, 0); end(); return;
    case 0xf4: emitSlow(o.S_HLT, 0); endSerialized(); return;
    case 0xf5: case 0xf8: case 0xf9: case 0xfc: case 0xfd:
      setImm(<i64>opcode);
      emitSlow(o.S_FLAG, 0);
      return;
    case 0xfa: case 0xfb:
      setImm(<i64>opcode);
      emitSlow(o.S_FLAG, 0);
      endSerialized();
      return;
    case 0xf6: case 0xf7: group3(wide); return;
    case 0xfe: case 0xff: group5(opcode, wide); return;
    default: undefined_(); return;
  }
}

/** MOV reg ← r/m. */
function moveTo(size: u32): void {
  setDst(regOperand(size));
  if (isMemory) { emit(o.OP_MOV_RM + size); return; }
  setSrc(rmOperand(size));
  emit(o.OP_MOV_RR + size);
}

function lea(): void {
  setDst(regOperand(operandSize));
  if (operandSize == 3 && addressSize == 3) emit(o.OP_LEA64);
  else if (operandSize == 2 && addressSize == 3) emit(o.OP_LEA32);
  else emitSlow(o.S_LEA, operandSize);
}

function decodeSegmentOrBcd(opcode: u32): void {
  if (cpuMode == MODE_64) { undefined_(); return; }
  if (opcode == 0x27 || opcode == 0x2f || opcode == 0x37 || opcode == 0x3f) {
    setImm(<i64>opcode);
    emitSlow(o.S_BCD, 0);
    return;
  }
  setImm(<i64>(opcode >> 3));
  if (opcode & 1) { emitSlow(o.S_POP_SEG, operandSize); endSerialized(); } // 0F is handled before
  else emitSlow(o.S_PUSH_SEG, operandSize);
}

/** LES, LDS, LSS, LFS, LGS: `r` ← offset, segment ← selector. */
export function loadFar(s: u32): void {
  setDst(regOperand(operandSize));
  setImm(<i64>s);
  emitSlow(o.S_LOAD_FAR, operandSize);
  endSerialized();
}

export function jcc(cc: u32, rel: i64): void {
  setImm(rel);
  setDst(0);
  setSrc(0);
  if (cpuMode == MODE_64) emit(o.OP_JCC + cc);
  else { setDst(<usize>cc); emitSlow(o.S_JCC, operandSize); }
  end();
}

/** The run loop's own operation for a shift of a register, or 0. */
function hotShift(op: u32, isConstant: bool): u32 {
  switch (op) {
    case 0: return isConstant ? o.OP_ROL_I : 0;
    case 1: return isConstant ? o.OP_ROR_I : 0;
    case 4: return isConstant ? o.OP_SHL_I : o.OP_SHL_CL;
    case 5: return isConstant ? o.OP_SHR_I : o.OP_SHR_CL;
    case 7: return isConstant ? o.OP_SAR_I : o.OP_SAR_CL;
    default: return 0;
  }
}

/** Count −1: CL. */
function shift(size: u32, count: i64): void {
  const op = (modrmByte >> 3) & 7;
  setImm(count);
  if (!isMemory && size >= 2 && count != 0 && hotShift(op, count > 0)) {
    setDst(rmOperand(size));
    emit(hotShift(op, count > 0) + size - 2);
    return;
  }
  rmSource(size);
  emitSlow(o.S_SHIFT + op, size);
}

function group3(size: u32): void {
  modrm();
  const op = (modrmByte >> 3) & 7;
  if (op < 2) { aluImm(o.ALU_TEST, size, fetchImm(size)); return; }
  if (op < 4) {
    if (!isMemory && size >= 2) {
      setDst(rmOperand(size));
      emit((op == 2 ? o.OP_NOT_R : o.OP_NEG_R) + size - 2);
      return;
    }
    allowLock();
    rmSource(size);
    emitSlow(op == 2 ? o.S_NOT : o.S_NEG, size);
    return;
  }
  rmSource(size);
  emitSlow(op == 4 ? o.S_MUL : op == 5 ? o.S_IMUL1 : op == 6 ? o.S_DIV : o.S_IDIV, size);
}

function group5(opcode: u32, size: u32): void {
  modrm();
  const op = (modrmByte >> 3) & 7;
  if (op < 2) {
    if (isMemory) { allowLock(); emit((op ? o.OP_DEC_M : o.OP_INC_M) + size); return; }
    setDst(rmOperand(size));
    emit((op ? o.OP_DEC_R : o.OP_INC_R) + size);
    return;
  }
  if (opcode == 0xfe) { undefined_(); return; }
  const is64 = cpuMode == MODE_64;
  switch (op) {
    case 2: case 4:
      rmSource(is64 ? 3 : operandSize);
      if (is64) emit(op == 2 ? (isMemory ? o.OP_CALL_M : o.OP_CALL_R) : isMemory ? o.OP_JMP_M : o.OP_JMP_R);
      else emitSlow(op == 2 ? o.S_CALL_RM : o.S_JMP_RM, operandSize);
      end();
      return;
    case 3: case 5:
      if (!isMemory) { undefined_(); return; }
      setSrc(0);
      emitSlow(op == 3 ? o.S_CALL_FAR : o.S_JMP_FAR, operandSize);
      end();
      return;
    case 6:
      if (stackSize() == 3) {
        if (isMemory) { emit(o.OP_PUSH64_M); return; }
        setSrc(rmOperand(3));
        emit(o.OP_PUSH64);
        return;
      }
      rmSource(stackSize());
      emitSlow(o.S_PUSH, stackSize());
      return;
    default: undefined_(); return;
  }
}

function x87(opcode: u32): void {
  modrm();
  if (!x87Info(opcode, modrmByte, false)) { undefined_(); return; }
  setImm(<i64>(opcode | (modrmByte << 8) | (operandSize == 1 ? 0x10000 : 0)));
  setSrc(isMemory ? 0 : 1);
  emitSlow(o.S_X87, 0);
}
