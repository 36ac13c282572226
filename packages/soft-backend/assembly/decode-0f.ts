// Decoder, part 3: the two- and three-byte opcode maps (0F, 0F 38, 0F 3A).
import { FEATURES, FEATURE_AES, FEATURE_MOVBE, FEATURE_PCLMULQDQ, FEATURE_RDTSCP } from "../src/cpu/layout";
import { endRemapped, endSerialized } from "./decode";
import { jcc, loadFar, stackSize } from "./decode-one-byte";
import * as o from "./ops";
import {
  addressSize, allowLock, cpuMode, emit, emitSlow, end, fetch8, is66, isMemory, mod, modrm, modrmByte, operandSize, pc, reg, regOperand,
  register, rep, rewind, rex, rm, rmOperand, segmentBase, setDst, setImm, setSrc, undefined_,
} from "./record";
import { DS, FS, GS, MODE_64, SS } from "./state";
import { sseInfo } from "./sse/index";
import { fprPointer, gprPointer, xmmPointer } from "./registers";

function rmSource(size: u32): void { setSrc(isMemory ? 0 : rmOperand(size)); }

/** Mandatory prefix: 0 none, 1 66, 2 F3, 3 F2. */
function mandatory(): u32 { return rep == 1 ? 2 : rep == 2 ? 3 : is66 ? 1 : 0; }

function bitTest(op: u32): void {
  modrm();
  if (op) allowLock();
  setDst(regOperand(operandSize));
  if (!isMemory && op == 0 && operandSize >= 2) {
    setSrc(regOperand(operandSize));
    setDst(rmOperand(operandSize));
    emit(o.OP_BT_RR + operandSize - 2);
    return;
  }
  rmSource(operandSize);
  emitSlow(o.S_BT + op, operandSize);
}

function extend(opcode: u32, isSigned: bool): void {
  const from: u32 = opcode & 1;
  modrm();
  setDst(regOperand(operandSize));
  setSrc(isMemory ? 0 : rmOperand(from));
  if (operandSize == 1) {
    setImm(1);
    emitSlow(isSigned ? o.S_MOVSX : o.S_MOVZX, from);
  } else if (isSigned) emit((isMemory ? o.OP_MOVSX_RM : o.OP_MOVSX_RR) + from * 2 + operandSize - 2);
  else emit((isMemory ? o.OP_MOVZX8_RM : o.OP_MOVZX8_RR) + from);
}

export function decodeTwoByte(): void {
  const opcode = fetch8();
  const wide: u32 = opcode & 1 ? operandSize : 0;
  const is64 = cpuMode == MODE_64;
  switch (opcode >> 4) {
    case 4: // CMOVcc
      modrm();
      setDst(regOperand(operandSize));
      rmSource(operandSize);
      setImm(<i64>(opcode & 15));
      if (operandSize == 1) emitSlow(o.S_CMOV, 1);
      else if (isMemory) emit(o.OP_CMOV32_M + operandSize - 2);
      else emit(o.OP_CMOV32 + operandSize - 2);
      return;
    case 8: jcc(opcode & 15, is64 || operandSize != 1 ? <i64><i32>fetchRel32() : <i64><i16>fetchRel16()); return;
    case 9: // SETcc
      modrm();
      setImm(<i64>(opcode & 15));
      if (!isMemory) { setDst(rmOperand(0)); emit(o.OP_SETCC); return; }
      setSrc(0);
      emitSlow(o.S_SETCC, 0);
      return;
    default: break;
  }
  if (opcode >= 0xc8 && opcode <= 0xcf) {
    setDst(register((opcode & 7) | ((rex & 1) << 3), operandSize));
    if (operandSize == 1) emitSlow(o.S_BSWAP, 1);
    else emit(o.OP_BSWAP + operandSize - 2);
    return;
  }
  switch (opcode) {
    case 0x00: group6(); return;
    case 0x01: group7(); return;
    case 0x02: case 0x03:
      modrm();
      setDst(regOperand(operandSize));
      rmSource(1);
      emitSlow(opcode == 2 ? o.S_LAR : o.S_LSL, operandSize);
      return;
    case 0x05: emitSlow(o.S_SYSCALL, 0); end(); return;
    case 0x06: emitSlow(o.S_CLTS, 0); endSerialized(); return;
    case 0x07: emitSlow(o.S_SYSRET, operandSize); end(); return;
    case 0x08: case 0x09: emitSlow(o.S_INVD, 0); return;
    case 0x0d: case 0x18: case 0x19: case 0x1a: case 0x1b: case 0x1c: case 0x1d: case 0x1e: case 0x1f:
      modrm(); // prefetches and hint NOPs
      rewindHint();
      return;
    case 0x20: case 0x21: case 0x22: case 0x23:
      controlRegister(opcode);
      return;
    case 0x30: emitSlow(o.S_WRMSR, 0); endRemapped(); return;
    case 0x31: setImm(0); emitSlow(o.S_RDTSC, 0); return;
    case 0x32: emitSlow(o.S_RDMSR, 0); return;
    case 0x33: emitSlow(o.S_RDPMC, 0); return;
    case 0x34: emitSlow(o.S_SYSENTER, 0); end(); return;
    case 0x35: emitSlow(o.S_SYSEXIT, operandSize); end(); return;
    case 0x38: decode38(); return;
    case 0x3a: decode3a(); return;
    case 0xa0: case 0xa8: setImm(opcode == 0xa0 ? FS : GS); emitSlow(o.S_PUSH_SEG, stackSize()); return;
    case 0xa1: case 0xa9:
      setImm(opcode == 0xa1 ? FS : GS);
      emitSlow(o.S_POP_SEG, stackSize());
      endSerialized();
      return;
    case 0xa2: emitSlow(o.S_CPUID, 0); return;
    case 0xa3: bitTest(0); return;
    case 0xab: bitTest(1); return;
    case 0xb3: bitTest(2); return;
    case 0xbb: bitTest(3); return;
    case 0xa4: case 0xa5: case 0xac: case 0xad:
      modrm();
      setDst(regOperand(operandSize));
      rmSource(operandSize);
      setImm(opcode & 1 ? -1 : <i64>fetch8());
      emitSlow(opcode < 0xa8 ? o.S_SHLD : o.S_SHRD, operandSize);
      return;
    case 0xae: group15(); return;
    case 0xaf:
      modrm();
      setDst(regOperand(operandSize));
      rmSource(operandSize);
      if (!isMemory && operandSize >= 2) emit(o.OP_IMUL_RR + operandSize - 2);
      else emitSlow(o.S_IMUL2, operandSize);
      return;
    case 0xb0: case 0xb1: case 0xc0: case 0xc1:
      modrm();
      allowLock();
      setDst(regOperand(wide));
      rmSource(wide);
      emitSlow(opcode < 0xc0 ? o.S_CMPXCHG : o.S_XADD, wide);
      return;
    case 0xb2: case 0xb4: case 0xb5:
      modrm();
      if (!isMemory) { undefined_(); return; }
      loadFar(opcode == 0xb2 ? SS : opcode == 0xb4 ? FS : GS);
      return;
    case 0xb6: case 0xb7: extend(opcode, false); return;
    case 0xbe: case 0xbf: extend(opcode, true); return;
    case 0xb8:
      if (rep != 1) { undefined_(); return; }
      modrm();
      setDst(regOperand(operandSize));
      rmSource(operandSize);
      emitSlow(o.S_POPCNT, operandSize);
      return;
    case 0xba: {
      modrm();
      const op = (modrmByte >> 3) & 7;
      if (op < 4) { undefined_(); return; }
      if (op > 4) allowLock();
      setImm(<i64>fetch8());
      setDst(0);
      rmSource(operandSize);
      emitSlow(o.S_BT + op - 4, operandSize);
      return;
    }
    case 0xbc: case 0xbd: // with F3 these are TZCNT and LZCNT, which without BMI/ABM execute as BSF and BSR
      modrm();
      setDst(regOperand(operandSize));
      rmSource(operandSize);
      emitSlow(opcode == 0xbc ? o.S_BSF : o.S_BSR, operandSize);
      return;
    case 0xc3:
      if (mandatory()) { undefined_(); return; }
      modrm();
      if (!isMemory) { undefined_(); return; }
      setSrc(regOperand(operandSize));
      emit(o.OP_MOV_MR + operandSize);
      return;
    case 0xc7: group9(); return;
    case 0xb9: case 0xff: modrm(); undefined_(); return; // UD1, UD0
    case 0x0b: undefined_(); return;
    default: sse(1, opcode); return;
  }
}

function fetchRel32(): u32 { const v = load<u32>(pc); for (let i = 0; i < 4; i++) fetch8(); return v; }
function fetchRel16(): u32 { const v = load<u16>(pc); fetch8(); fetch8(); return v; }

/** Hints read their ModRM and do nothing. */
function rewindHint(): void {
  rewind();
  emit(o.OP_NOP);
}

function decode38(): void {
  const opcode = fetch8();
  if (opcode == 0xf0 || opcode == 0xf1) {
    modrm();
    if (rep == 2) { // CRC32
      const size: u32 = opcode == 0xf0 ? 0 : operandSize;
      setDst(regOperand(operandSize));
      rmSource(size);
      emitSlow(o.S_CRC32, size);
      return;
    }
    if (rep || !isMemory || !isClaimed(FEATURE_MOVBE)) { undefined_(); return; }
    setDst(regOperand(operandSize));
    setImm(opcode & 1);
    emitSlow(o.S_MOVBE, operandSize);
    return;
  }
  sse(2, opcode);
}

function decode3a(): void { sse(3, fetch8()); }

// sseInfo's answer.
const STORES: u32 = 1 << 8;
const ALIGNED: u32 = 1 << 9;
const HAS_IMM8: u32 = 1 << 10;
const RM_IS_GPR: u32 = 1 << 11;
const REG_IS_GPR: u32 = 1 << 12;
const RM_IS_MMX: u32 = 1 << 13;
const REG_IS_MMX: u32 = 1 << 14;
const MODIFIES: u32 = 1 << 15;
const REGISTER_FORM_ILLEGAL: u32 = 1 << 16;
const NO_RM: u32 = 1 << 17;
const IMPLICIT_DESTINATION: u32 = 1 << 18;
const MEMORY_FORM_ILLEGAL: u32 = 1 << 20;

/** Bits of an S_SSE record's immediate above the 32 of the code. */
export const SSE_IMM8_SHIFT: i64 = 32;
export const SSE_SIZE_SHIFT: i64 = 40;
export const SSE_STORES: i64 = 1 << 48;
export const SSE_ALIGNED: i64 = 1 << 49;
export const SSE_MODIFIES: i64 = 1 << 50;
export const SSE_MMX: i64 = 1 << 51;

/** Whether the CPU model has an extension that not every model has. */
function isClaimed(feature: u32): bool { return (load<u32>(FEATURES) & feature) != 0; }

/** AESENC … AESKEYGENASSIST and PCLMULQDQ of a model without them. */
function isUnclaimed(map: u32, opcode: u32): bool {
  if (map == 1 || opcode < 0x44) return false;
  if (map == 3 && opcode == 0x44) return !isClaimed(FEATURE_PCLMULQDQ);
  return opcode >= 0xdb && !isClaimed(FEATURE_AES);
}

function sse(map: u32, opcode: u32): void {
  const prefix = mandatory();
  const peeked: u32 = load<u8>(pc);
  const info = sseInfo(map, prefix, opcode, peeked, (rex & 8) != 0);
  if (!info || isUnclaimed(map, opcode)) { undefined_(); return; }
  if (!(info & NO_RM)) modrm();
  if (isMemory ? (info & MEMORY_FORM_ILLEGAL) != 0 : (info & REGISTER_FORM_ILLEGAL) != 0) { undefined_(); return; }
  const imm8: u32 = info & HAS_IMM8 ? fetch8() : 0;
  if (!isMemory && hotRegisterMove(map, prefix, opcode)) return;
  if (isMemory && hotMemoryMove(map, prefix, opcode)) return;
  const code = opcode | (map << 8) | (prefix << 12) | (rex & 8 ? 0x4000 : 0) | (isMemory ? 0 : 0x8000) | ((reg & 7) << 16);
  setDst(info & REG_IS_GPR ? gprPointer(reg) : info & REG_IS_MMX ? fprPointer(reg & 7) : xmmPointer(reg));
  setSrc(isMemory ? 0 : info & RM_IS_GPR ? gprPointer(rm) : info & RM_IS_MMX ? fprPointer(rm & 7) : xmmPointer(rm));
  const isMmx = (info & (RM_IS_MMX | REG_IS_MMX)) != 0 || (info & NO_RM) != 0;
  setImm(
    <i64>code | (<i64>imm8 << SSE_IMM8_SHIFT) | (<i64>(info & 0xff) << SSE_SIZE_SHIFT) | (info & STORES ? SSE_STORES : 0) |
      (info & ALIGNED ? SSE_ALIGNED : 0) | (info & MODIFIES ? SSE_MODIFIES : 0) | (isMmx ? SSE_MMX : 0),
  );
  if (info & IMPLICIT_DESTINATION) maskmov(isMmx);
  else emitSlow(o.S_SSE, 0);
}

/** MASKMOVDQU, MASKMOVQ: `src` mask, `dst` data, destination DS:rDI. */
function maskmov(isMmx: bool): void {
  setImm(<i64>addressSize | (isMmx ? 0x10 : 0) | (<i64>segmentBase(DS) << 8));
  emitSlow(o.S_MASKMOV, 0);
}

function isAlignedMove(prefix: u32, opcode: u32): bool {
  return prefix < 2 && (opcode == 0x28 || opcode == 0x29) || prefix == 1 && (opcode == 0x6f || opcode == 0x7f);
}
function isUnalignedMove(prefix: u32, opcode: u32): bool {
  return prefix < 2 && (opcode == 0x10 || opcode == 0x11) || prefix == 2 && (opcode == 0x6f || opcode == 0x7f);
}
function isStoreMove(opcode: u32): bool { return opcode == 0x29 || opcode == 0x7f || opcode == 0x11; }

function hotRegisterMove(map: u32, prefix: u32, opcode: u32): bool {
  if (map != 1 || !(isAlignedMove(prefix, opcode) || isUnalignedMove(prefix, opcode))) return false;
  const isStore = isStoreMove(opcode);
  setDst(xmmPointer(isStore ? rm : reg));
  setSrc(xmmPointer(isStore ? reg : rm));
  emit(o.OP_MOVDQA_RR);
  return true;
}

function hotMemoryMove(map: u32, prefix: u32, opcode: u32): bool {
  if (map != 1) return false;
  const isAligned = isAlignedMove(prefix, opcode);
  if (!isAligned && !isUnalignedMove(prefix, opcode)) return false;
  const isStore = isStoreMove(opcode);
  if (isStore) setSrc(xmmPointer(reg));
  else setDst(xmmPointer(reg));
  emit(isAligned ? (isStore ? o.OP_MOVDQA_MR : o.OP_MOVDQA_RM) : isStore ? o.OP_MOVDQU_MR : o.OP_MOVDQU_RM);
  return true;
}

function group6(): void {
  modrm();
  const op = (modrmByte >> 3) & 7;
  if (op > 5) { undefined_(); return; }
  rmSource(op < 2 ? operandSize : 1);
  const isStore = op < 2;
  emitSlow(op == 0 ? o.S_SLDT : op == 1 ? o.S_STR : op == 2 ? o.S_LLDT : op == 3 ? o.S_LTR : op == 4 ? o.S_VERR : o.S_VERW, isStore && !isMemory ? operandSize : 1);
  if (op == 2 || op == 3) endSerialized();
}

function group7(): void {
  modrm();
  const op = (modrmByte >> 3) & 7;
  if (isMemory) {
    switch (op) {
      case 0: emitSlow(o.S_SGDT, operandSize); return;
      case 1: emitSlow(o.S_SIDT, operandSize); return;
      case 2: emitSlow(o.S_LGDT, operandSize); endSerialized(); return;
      case 3: emitSlow(o.S_LIDT, operandSize); endSerialized(); return;
      case 4: setSrc(0); emitSlow(o.S_SMSW, 1); return;
      case 6: setSrc(0); emitSlow(o.S_LMSW, 1); endRemapped(); return;
      case 7: emitSlow(o.S_INVLPG, 0); endRemapped(); return;
      default: undefined_(); return;
    }
  }
  switch (modrmByte) {
    case 0xd0: emitSlow(o.S_XGETBV, 0); return;
    case 0xd1: emitSlow(o.S_XSETBV, 0); endSerialized(); return;
    case 0xf8: if (cpuMode != MODE_64) undefined_(); else emitSlow(o.S_SWAPGS, 0); return;
    case 0xf9: if (!isClaimed(FEATURE_RDTSCP)) undefined_(); else { setImm(1); emitSlow(o.S_RDTSC, 0); } return;
    default: break;
  }
  if (op == 4) { rmSource(operandSize); emitSlow(o.S_SMSW, operandSize); return; }
  if (op == 6) { rmSource(1); emitSlow(o.S_LMSW, 1); endRemapped(); return; }
  undefined_(); // VMX, SVM, MONITOR, SMAP: not in our CPU model
}

function group15(): void {
  modrm();
  const op = (modrmByte >> 3) & 7;
  if (rep) { undefined_(); return; } // FSGSBASE, not in our CPU model
  if (!isMemory) {
    if (op < 5 || is66) { undefined_(); return; }
    emit(o.OP_NOP); // LFENCE, MFENCE, SFENCE
    return;
  }
  if (is66 && op > 5) { undefined_(); return; } // CLWB, CLFLUSHOPT: not in any CPU model
  switch (op) {
    case 0: setImm((rex & 8) != 0 ? 1 : 0); emitSlow(o.S_FXSAVE, 0); return;
    case 1: setImm((rex & 8) != 0 ? 1 : 0); emitSlow(o.S_FXRSTOR, 0); return;
    case 2: emitSlow(o.S_LDMXCSR, 2); return;
    case 3: emitSlow(o.S_STMXCSR, 2); return;
    case 7: emitSlow(o.S_CLFLUSH, 0); return;
    default: setImm(<i64>op | (rex & 8 ? 8 : 0)); emitSlow(o.S_XSAVE, 0); return;
  }
}

function group9(): void {
  modrm();
  const op = (modrmByte >> 3) & 7;
  if (op != 1 || !isMemory) { undefined_(); return; } // RDRAND, RDSEED, VMX: not in our CPU model
  allowLock();
  emitSlow(o.S_CMPXCHG8B, rex & 8 ? 3 : 2);
}

function controlRegister(opcode: u32): void {
  modrm();
  // Memory forms do not exist: mod is ignored.
  const isControl = !(opcode & 1);
  setDst(gprPointer(rm));
  setImm(<i64>reg);
  if (isControl) emitSlow(opcode & 2 ? o.S_MOV_TO_CR : o.S_MOV_FROM_CR, 0);
  else emitSlow(opcode & 2 ? o.S_MOV_TO_DR : o.S_MOV_FROM_DR, 0);
  if (opcode & 2) endRemapped();
}
