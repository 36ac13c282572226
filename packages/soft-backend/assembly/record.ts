// Building records: the instruction being decoded, its prefixes and operands, and where its records go.
import { EA, GPR, RIP_BASE, SEG, SEG_SIZE, ZERO } from "../src/cpu/layout";
import { accessOf } from "./access";
import { OP_EA16, OP_EA32, OP_EA32_SEG, OP_EA64, OP_EA_IMM, SLOW, S_UD } from "./ops";
import { DS, FS, MODE_32, MODE_64, RECORD, SS, opOf, srcOf } from "./state";

/** Next byte to fetch. */
export let pc: usize = 0;
/** Where the next record goes. */
export let out: usize = 0;

// Prefixes of the instruction.
export let rex: u32 = 0;
export let hasRex: bool = false;
export let rep: u32 = 0; // 1: F3, 2: F2
export let is66: bool = false;
export let isLocked: bool = false;
/** Segment override, or −1. */
export let segment: i32 = -1;
/** 1 = 16, 2 = 32, 3 = 64 bits. */
export let operandSize: u32 = 2;
export let addressSize: u32 = 3;
export let cpuMode: u32 = 3;

// ModRM.
export let mod: u32 = 0;
export let reg: u32 = 0;
export let rm: u32 = 0;
export let modrmByte: u32 = 0;
export let isMemory: bool = false;

// Operands of the next record.
export let dst: usize = 0;
export let src: usize = 0;
export let imm: i64 = 0;
let base: usize = ZERO;
let index: usize = ZERO;
let scale: u32 = 0;
let disp: i32 = 0;

// Facts about the whole instruction.
export let isRipRelative: bool = false;
let ignoresSegment: bool = false;
export let endsBlock: bool = false;
export let mayLock: bool = false;
let firstRecord: usize = 0;
let instructionIndex: u32 = 0;
let startOffset: u32 = 0;

export function begin(at: usize, to: usize, number: u32, offset: u32, cpu: u32): void {
  pc = at;
  out = to;
  firstRecord = to;
  instructionIndex = number;
  startOffset = offset;
  cpuMode = cpu;
  rex = 0; hasRex = false; rep = 0; is66 = false; isLocked = false; segment = -1;
  isRipRelative = false; endsBlock = false; mayLock = false; isMemory = false; ignoresSegment = false;
  dst = 0; src = 0; imm = 0;
  noMemory();
}

export function noMemory(): void { base = ZERO; index = ZERO; scale = 0; disp = 0; }
export function rewind(): void { out = firstRecord; noMemory(); dst = 0; src = 0; imm = 0; }
export function setRep(value: u32): void { rep = value; }
export function set66(): void { is66 = true; }
export function setLocked(): void { isLocked = true; }
export function setSegment(value: i32): void { segment = value; }
export function setRex(value: u32): void { rex = value; hasRex = true; }
export function clearRex(): void { rex = 0; hasRex = false; }
export function setSizes(operand: u32, address: u32): void { operandSize = operand; addressSize = address; }
export function setDst(p: usize): void { dst = p; }
export function setSrc(p: usize): void { src = p; }
export function setImm(value: i64): void { imm = value; }
/** The source is the record's own immediate. */
export function setImmSource(value: i64): void { imm = value; src = out + 24; }
/** LEA: the address is the result, no segment takes part. */
export function ignoreSegment(): void { ignoresSegment = true; }
export function end(): void { endsBlock = true; }
export function allowLock(): void { mayLock = true; }

export function fetch8(): u32 { const v = load<u8>(pc); pc += 1; return v; }
export function fetch16(): u32 { const v = load<u16>(pc); pc += 2; return v; }
export function fetch32(): u32 { const v = load<u32>(pc); pc += 4; return v; }
export function fetch64(): u64 { const v = load<u64>(pc); pc += 8; return v; }
export function fetchS8(): i64 { return <i64><i8>fetch8(); }
/** An immediate of the operand size; 32 bits sign-extended for 64-bit operands. */
export function fetchImm(size: u32): i64 {
  if (size == 0) return fetchS8();
  if (size == 1) return <i64><i16>fetch16();
  return <i64><i32>fetch32();
}

export function emit(op: u32): usize {
  const d = out;
  store<u16>(d, <u16>op);
  store<u16>(d, <u16>startOffset, 2);
  store<u8>(d, <u8>instructionIndex, 6);
  store<u8>(d, <u8>scale, 7);
  store<u32>(d, <u32>dst, 8);
  store<u32>(d, <u32>src, 12);
  store<u16>(d, <u16>base, 16);
  store<u16>(d, <u16>index, 18);
  store<i32>(d, disp, 20);
  store<i64>(d, imm, 24);
  out = d + RECORD;
  return d;
}

export function emitSlow(id: u32, size: u32): void { emit(SLOW + id * 4 + size); }

/** Replaces whatever was emitted by an instruction that raises #UD. */
export function undefined_(): void {
  rewind();
  emitSlow(S_UD, 0);
  endsBlock = true;
}

/** Once the length is known: ends of records and RIP-relative displacements. */
export function finish(length: u32): void {
  const offset = startOffset + length;
  if (cpuMode != MODE_64) checkAddress();
  for (let d = firstRecord; d < out; d += RECORD) {
    store<u16>(d, <u16>offset, 4);
    if (isRipRelative && load<u16>(d, 16) == <u16>RIP_BASE) store<i32>(d, load<i32>(d, 20) + <i32>offset, 20);
  }
}

/** Outside 64-bit mode the prefix record checks what the record behind it is going to do. */
function checkAddress(): void {
  const op = opOf(firstRecord);
  if (op < OP_EA32 || op > OP_EA_IMM || srcOf(firstRecord) == ZERO) return;
  store<u16>(firstRecord, <u16>(op + OP_EA32_SEG - OP_EA32));
  store<u32>(firstRecord, accessOf(firstRecord + RECORD), 8);
}

/** Pointer to general register `n` as an operand of `size`. */
export function register(n: u32, size: u32): usize {
  if (size == 0 && !hasRex && n >= 4) return GPR + ((n - 4) << 3) + 1;
  return GPR + (n << 3);
}
export function regOperand(size: u32): usize { return register(reg, size); }
export function rmOperand(size: u32): usize { return register(rm, size); }

/** Pointer to the base of the segment a memory operand uses; ZERO where it has none. */
export function segmentBase(standard: u32): usize {
  if (ignoresSegment) return ZERO;
  const s: u32 = segment >= 0 ? <u32>segment : standard;
  if (cpuMode == MODE_64 && s < FS) return ZERO;
  return SEG + s * SEG_SIZE;
}

/** Reads ModRM, and for a memory operand leaves base, index, scale and displacement for the next record. */
export function modrm(): void {
  modrmByte = fetch8();
  mod = modrmByte >> 6;
  reg = ((modrmByte >> 3) & 7) | ((rex & 4) << 1);
  rm = (modrmByte & 7) | ((rex & 1) << 3);
  isMemory = mod != 3;
  if (!isMemory) return;
  if (addressSize == 1) address16();
  else address32();
}

function address16(): void {
  let standard: u32 = DS;
  const low = rm & 7;
  base = ZERO; index = ZERO; scale = 0; disp = 0;
  if (low == 6 && mod == 0) disp = <i32>fetch16();
  else {
    const isBp = low == 2 || low == 3 || low == 6;
    if (isBp) standard = SS;
    base = low == 4 ? GPR + 48 : low == 5 ? GPR + 56 : low == 7 || low < 2 ? GPR + 24 : GPR + 40;
    if (low < 4) index = low & 1 ? GPR + 56 : GPR + 48;
    if (mod == 1) disp = <i32>fetchS8();
    else if (mod == 2) disp = <i32><i16>fetch16();
  }
  prefixAddress(OP_EA16, segmentBase(standard));
}

function address32(): void {
  let standard: u32 = DS;
  const low = modrmByte & 7;
  base = ZERO; index = ZERO; scale = 0; disp = 0;
  let baseRegister: u32 = rm;
  let hasBase = true;
  if (low == 4) {
    const sib = fetch8();
    const indexRegister = ((sib >> 3) & 7) | ((rex & 2) << 2);
    if (indexRegister != 4) { index = GPR + (indexRegister << 3); scale = sib >> 6; }
    baseRegister = (sib & 7) | ((rex & 1) << 3);
    if ((sib & 7) == 5 && mod == 0) { hasBase = false; disp = <i32>fetch32(); }
  } else if (low == 5 && mod == 0) {
    hasBase = false;
    disp = <i32>fetch32();
    if (cpuMode == MODE_64) { base = RIP_BASE; isRipRelative = true; }
  }
  if (hasBase) {
    base = GPR + (baseRegister << 3);
    if (baseRegister == 4 || baseRegister == 5) standard = SS;
  }
  if (mod == 1) disp = <i32>fetchS8();
  else if (mod == 2) disp = <i32>fetch32();
  const segmentAt = segmentBase(standard);
  if (addressSize == 3) {
    // A page offset may still be added to a RIP-relative displacement: keep it from overflowing.
    if (segmentAt == ZERO) { if (!isRipRelative || disp < 0x7fff0000) return; }
    else if (index == ZERO && !isRipRelative) { index = segmentAt; return; }
    prefixAddress(OP_EA64, segmentAt);
  } else prefixAddress(OP_EA32, segmentAt);
}

/** Emits the record that computes the address into EA; the operand is then simply [EA]. */
function prefixAddress(op: u32, segmentAt: usize): void {
  const keep = src;
  src = segmentAt;
  emit(op);
  src = keep;
  base = EA; index = ZERO; scale = 0; disp = 0;
}

/** The memory operand of MOV AL/eAX ↔ moffs. */
export function absolute(): void {
  imm = addressSize == 3 ? <i64>fetch64() : addressSize == 2 ? <i64>fetch32() : <i64>fetch16();
  prefixAddress(OP_EA_IMM, segmentBase(DS));
  imm = 0;
  isMemory = true;
}

/** Default operand and address sizes in the current mode, before REX.W. */
export function defaultSizes(is67: bool): void {
  if (cpuMode == MODE_64) {
    operandSize = rex & 8 ? 3 : is66 ? 1 : 2;
    addressSize = is67 ? 2 : 3;
  } else {
    const is32 = cpuMode == MODE_32;
    operandSize = is32 != is66 ? 2 : 1;
    addressSize = is32 != is67 ? 2 : 1;
  }
}
