/** FLDENV, FNSTENV, FRSTOR, FNSAVE, FXSAVE, FXRSTOR and the control instructions (SDM 1 §8.1.10, §10.5). */
import { FCW, FDP, FIP, FOP, FPR, FSW, FTAG, MODE, MXCSR, XMM } from "../../src/cpu/layout";
import { f80IsUnsupported } from "../softfloat/f80";
import { address, control, setStatus, status, updateSummary } from "./stack";

const MXCSR_MASK: u32 = 0xffff;

/** FNINIT: registers keep their contents. */
export function initialise(): void {
  store<u16>(FCW, 0x37f);
  store<u16>(FSW, 0);
  store<u8>(FTAG, 0);
  store<u16>(FOP, 0);
  store<u64>(FIP, 0);
  store<u64>(FDP, 0);
}

/** Power-on state (SDM 3A table 9-1). */
export function reset(): void {
  initialise();
  store<u16>(FCW, 0x40);
  store<u8>(FTAG, 0xff);
  memory.fill(FPR, 0, 128);
}

/** FNCLEX. */
export function clearExceptions(): void {
  setStatus(status() & 0x7f00);
}

export function loadControl(fcw: u32): void {
  store<u16>(FCW, <u16>((fcw & 0x1f7f) | 0x40));
  updateSummary();
}

/** The two-bit tags, from the abridged ones and the contents (SDM 1 figure 8-7). */
function fullTag(): u32 {
  let tag: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) {
    let code: u32 = 3;
    if (((u32(load<u8>(FTAG)) >> i) & 1) != 0) {
      const sig = load<u64>(FPR + (i << 4));
      const se: u32 = load<u16>(FPR + (i << 4), 8);
      const field = se & 0x7fff;
      if (field == 0 && sig == 0) code = 1;
      else code = field == 0 || field == 0x7fff || f80IsUnsupported(sig, se) ? 2 : 0;
    }
    tag |= code << (2 * i);
  }
  return tag;
}

function setFullTag(tag: u32): void {
  let full: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) if (((tag >> (2 * i)) & 3) != 3) full |= 1 << i;
  store<u8>(FTAG, <u8>full);
}

/** Bits 16–31 of a linear address as images of real mode hold them, above an opcode's bits. */
function upperAddress(at: usize): u32 {
  return u32(load<u16>(at, 2)) << 12;
}

/** Writes the image, 14 bytes or 28. Code and data selectors of protected mode are 0. */
function writeEnvironment(ptr: usize, opsize16: bool): void {
  const tag = fullTag();
  const isReal = load<u32>(MODE) == 0;
  const fopAndUpper = isReal ? upperAddress(FIP) | (load<u16>(FOP) & 0x7ff) : 0;
  if (opsize16) {
    store<u16>(ptr, <u16>control());
    store<u16>(ptr, <u16>status(), 2);
    store<u16>(ptr, <u16>tag, 4);
    store<u16>(ptr, load<u16>(FIP), 6);
    store<u16>(ptr, <u16>fopAndUpper, 8);
    store<u16>(ptr, load<u16>(FDP), 10);
    store<u16>(ptr, isReal ? <u16>upperAddress(FDP) : 0, 12);
    return;
  }
  store<u32>(ptr, 0xffff0000 | control());
  store<u32>(ptr, 0xffff0000 | status(), 4);
  store<u32>(ptr, 0xffff0000 | tag, 8);
  store<u32>(ptr, isReal ? 0xffff0000 | load<u16>(FIP) : load<u32>(FIP), 12);
  store<u32>(ptr, isReal ? fopAndUpper : u32(load<u16>(FOP) & 0x7ff) << 16, 16);
  store<u32>(ptr, isReal ? 0xffff0000 | load<u16>(FDP) : load<u32>(FDP), 20);
  store<u32>(ptr, isReal ? upperAddress(FDP) : 0xffff0000, 24);
}

function readEnvironment(ptr: usize, opsize16: bool): void {
  const step: usize = opsize16 ? 2 : 4;
  store<u16>(FCW, <u16>((load<u16>(ptr) & 0x1f7f) | 0x40));
  setStatus(load<u16>(ptr + step));
  setFullTag(load<u16>(ptr + 2 * step));
  if (load<u32>(MODE) == 0) {
    const upper = opsize16 ? u32(load<u16>(ptr, 8)) : load<u32>(ptr, 16);
    const operand = opsize16 ? u32(load<u16>(ptr, 12)) : load<u32>(ptr, 24);
    store<u64>(FIP, u64(load<u16>(ptr + 3 * step)) | (u64((upper >> 12) & 0xffff) << 16));
    store<u64>(FDP, u64(load<u16>(ptr + 5 * step)) | (u64((operand >> 12) & 0xffff) << 16));
    store<u16>(FOP, <u16>(upper & 0x7ff));
  } else if (opsize16) {
    store<u64>(FIP, load<u16>(ptr, 6));
    store<u64>(FDP, load<u16>(ptr, 10));
    store<u16>(FOP, 0);
  } else {
    store<u64>(FIP, load<u32>(ptr, 12));
    store<u16>(FOP, load<u16>(ptr, 18) & 0x7ff);
    store<u64>(FDP, load<u32>(ptr, 20));
  }
  updateSummary();
}

/** FNSTENV: masks every exception afterwards. */
export function storeEnvironment(ptr: usize, opsize16: bool): void {
  writeEnvironment(ptr, opsize16);
  store<u16>(FCW, <u16>(control() | 0x3f));
  updateSummary();
}

/** FLDENV. */
export function loadEnvironment(ptr: usize, opsize16: bool): void {
  readEnvironment(ptr, opsize16);
}

/** FNSAVE: environment, then ST(0)…ST(7), ten bytes each; then FNINIT. */
export function save(ptr: usize, opsize16: bool): void {
  writeEnvironment(ptr, opsize16);
  const base = ptr + (opsize16 ? 14 : 28);
  for (let i: u32 = 0; i < 8; i++) {
    store<u64>(base + 10 * i, load<u64>(address(i)));
    store<u16>(base + 10 * i, load<u16>(address(i), 8), 8);
  }
  initialise();
}

/** FRSTOR. */
export function restore(ptr: usize, opsize16: bool): void {
  readEnvironment(ptr, opsize16);
  const base = ptr + (opsize16 ? 14 : 28);
  for (let i: u32 = 0; i < 8; i++) {
    store<u64>(address(i), load<u64>(base + 10 * i));
    store<u16>(address(i), load<u16>(base + 10 * i, 8), 8);
  }
}

function xmmCount(): u32 {
  return load<u32>(MODE) == 3 ? 16 : 8;
}

/** FXSAVE, FXSAVE64 if `rexw`: all 512 bytes but 464–511, which it leaves alone (SDM 1 §10.5.1). */
export function fxsave(ptr: usize, rexw: bool): void {
  store<u16>(ptr, <u16>control());
  store<u16>(ptr, <u16>status(), 2);
  store<u16>(ptr, load<u8>(FTAG), 4);
  store<u16>(ptr, load<u16>(FOP) & 0x7ff, 6);
  const mask: u64 = rexw ? 0xffffffffffffffff : 0xffffffff;
  store<u64>(ptr, load<u64>(FIP) & mask, 8);
  store<u64>(ptr, load<u64>(FDP) & mask, 16);
  store<u32>(ptr, load<u32>(MXCSR), 24);
  store<u32>(ptr, MXCSR_MASK, 28);
  for (let i: u32 = 0; i < 8; i++) {
    store<u64>(ptr + 16 * i, load<u64>(address(i)), 32);
    store<u64>(ptr + 16 * i, load<u16>(address(i), 8), 40);
  }
  memory.copy(ptr + 160, XMM, 16 * xmmCount());
}

/** FXRSTOR, FXRSTOR64 if `rexw`: 0, or 13 if the image sets reserved bits of MXCSR (nothing is loaded then). */
export function fxrstor(ptr: usize, rexw: bool): i32 {
  const mxcsr = load<u32>(ptr, 24);
  if ((mxcsr & ~MXCSR_MASK) != 0) return 13;
  store<u32>(MXCSR, mxcsr);
  store<u16>(FCW, <u16>((load<u16>(ptr) & 0x1f7f) | 0x40));
  setStatus(load<u16>(ptr, 2));
  store<u8>(FTAG, load<u8>(ptr, 4));
  store<u16>(FOP, load<u16>(ptr, 6) & 0x7ff);
  store<u64>(FIP, rexw ? load<u64>(ptr, 8) : u64(load<u32>(ptr, 8)));
  store<u64>(FDP, rexw ? load<u64>(ptr, 16) : u64(load<u32>(ptr, 16)));
  updateSummary();
  for (let i: u32 = 0; i < 8; i++) {
    store<u64>(address(i), load<u64>(ptr + 16 * i, 32));
    store<u16>(address(i), load<u16>(ptr + 16 * i, 40), 8);
  }
  memory.copy(XMM, ptr + 160, 16 * xmmCount());
  return 0;
}
