// x87, MMX and SSE as instructions: availability, operands, faults. Their arithmetic is in x87/, sse/, softfloat/.
import * as L from "../src/cpu/layout";
import { SSE_IMM8_SHIFT, SSE_ALIGNED, SSE_MMX, SSE_MODIFIES, SSE_SIZE_SHIFT, SSE_STORES } from "./decode-0f";
import { GP, MF, NM, UD, UNIMPLEMENTED, raise } from "./faults";
import { SSE_BLOCKED, X87_BLOCKED } from "./fields";
import { commit, modifiable, readable, writable } from "./mmu";
import * as o from "./ops";
import { raised, segmentAddress } from "./segment-checks";
import { FAULT, NEXT } from "./results";
import { sseExec } from "./sse/index";
import { CR0_MP, CR0_NE, CR0_TS, CR4_OSXMMEXCPT, CR4_OSXSAVE, CS_BASE, MODE_64, MODE_REAL, RAX, RDI, RDX, cr0, cr4, dstOf, ea, immOf, mode, srcOf, startOf } from "./state";
import { fxrstor, fxsave, x87Exec, x87Info, x87Initialise, x87Pending, x87Stored, x87Wait } from "./x87";

const X87_STORES: u32 = 0x100;

function fail(vector: i32): u32 {
  raise(vector, 0);
  return FAULT;
}

/** A pending x87 exception: #MF, or the pin for it that nobody here listens to. */
function mathFault(): u32 {
  if (cr0() & CR0_NE) return fail(MF);
  raise(UNIMPLEMENTED, L.LACKS_FERR);
  return FAULT;
}

/** What an x87 or MMX instruction raised. */
function failUnit(vector: i32): u32 { return vector == MF ? mathFault() : fail(vector); }

export function slowFpu(d: usize, id: u32): u32 {
  switch (id) {
    case o.S_X87: return x87(d);
    case o.S_FWAIT: {
      if ((cr0() & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) return fail(NM);
      const vector = x87Wait();
      return vector ? failUnit(vector) : NEXT;
    }
    case o.S_SSE: return sse(d);
    case o.S_FXSAVE: case o.S_FXRSTOR: {
      if (load<u32>(X87_BLOCKED)) return fail(NM);
      const va = ea(d);
      if (va & 15) return fail(GP);
      return id == o.S_FXSAVE ? saveImage(d, va, immOf(d) != 0) : restoreImage(d, va, immOf(d) != 0);
    }
    case o.S_LDMXCSR: {
      if (load<u32>(SSE_BLOCKED)) return fail(<i32>load<u32>(SSE_BLOCKED));
      const p = readable(d, ea(d), 4);
      if (!p) return FAULT;
      const v = load<u32>(p);
      if (v & 0xffff0000) return fail(GP);
      store<u32>(L.MXCSR, v);
      return NEXT;
    }
    case o.S_STMXCSR: {
      if (load<u32>(SSE_BLOCKED)) return fail(<i32>load<u32>(SSE_BLOCKED));
      const p = writable(d, ea(d), 4);
      if (!p) return FAULT;
      store<u32>(p, load<u32>(L.MXCSR));
      commit(p);
      return NEXT;
    }
    case o.S_MASKMOV: return maskmov(d);
    default: return xsave(d);
  }
}

/** What the x87 unit remembers of an instruction's address: RIP, in real mode the linear address (SDM 1 §8.1.8). */
function unitPointer(d: usize): u64 {
  return mode() == MODE_64 || mode() == MODE_REAL ? startOf(d) : (startOf(d) - load<u64>(CS_BASE)) & 0xffffffff;
}

function x87(d: usize): u32 {
  if (load<u32>(X87_BLOCKED)) return fail(NM);
  const imm = <u32>immOf(d);
  const opcode = imm & 0xff, modrm = (imm >> 8) & 0xff;
  const is16 = (imm & 0x10000) != 0;
  let p: usize = 0;
  let va: u64 = 0;
  const info = x87Info(opcode, modrm, is16);
  const isStore = (info & X87_STORES) != 0;
  if (!srcOf(d)) {
    va = ea(d);
    let size = info & 0xff;
    if (size > 64) return x87Environment(d, opcode, modrm, va, size, isStore, is16);
    p = isStore ? writable(d, va, size) : readable(d, va, size);
    if (!p) return FAULT;
  }
  const vector = x87Exec(opcode, modrm, p, unitPointer(d), va, is16);
  if (vector) return failUnit(vector);
  if (p && x87Stored) commit(p);
  return NEXT;
}

/** An image too large for SCRATCH, copied through memory of our own. */
const IMAGE: usize = memory.data(1024, 16);

function copyIn(d: usize, va: u64, size: u32): bool {
  for (let i: u32 = 0; i < size; i += 4) {
    const p = readable(d, va + i, min<u32>(4, size - i));
    if (!p) return false;
    if (size - i >= 4) store<u32>(IMAGE + i, load<u32>(p));
    else store<u16>(IMAGE + i, load<u16>(p));
  }
  return true;
}

function copyOut(d: usize, va: u64, size: u32): bool {
  // The last byte first: nothing is written where a later page would fault.
  if (!modifiable(d, va + size - 1, 1)) return false;
  for (let i: u32 = 0; i < size; i += 4) {
    const p = writable(d, va + i, min<u32>(4, size - i));
    if (!p) return false;
    if (size - i >= 4) store<u32>(p, load<u32>(IMAGE + i));
    else store<u16>(p, load<u16>(IMAGE + i));
    commit(p);
  }
  return true;
}

/** FSAVE and FRSTOR. */
function x87Environment(d: usize, opcode: u32, modrm: u32, va: u64, size: u32, isStore: bool, is16: bool): u32 {
  if (is16) size = 94;
  if (!isStore && !copyIn(d, va, size)) return FAULT;
  if (isStore && (!writable(d, va, 1) || !writable(d, va + size - 1, 1))) return FAULT;
  const vector = x87Exec(opcode, modrm, IMAGE, unitPointer(d), va, is16);
  if (vector) return failUnit(vector);
  return !isStore || copyOut(d, va, size) ? NEXT : FAULT;
}

function saveImage(d: usize, va: u64, rexw: bool): u32 {
  if (!copyIn(d, va, 512)) return FAULT; // bytes 464–511 are the program's
  fxsave(IMAGE, rexw);
  return copyOut(d, va, 512) ? NEXT : FAULT;
}

function restoreImage(d: usize, va: u64, rexw: bool): u32 {
  if (!copyIn(d, va, 512)) return FAULT;
  const vector = fxrstor(IMAGE, rexw);
  return vector ? fail(vector) : NEXT;
}

function sse(d: usize): u32 {
  const imm = immOf(d);
  if (imm & SSE_MMX) {
    if (load<u32>(X87_BLOCKED)) return fail(load<u64>(L.CR0) & 4 ? UD : NM);
    if (x87Pending()) return mathFault();
  } else if (load<u32>(SSE_BLOCKED)) return fail(<i32>load<u32>(SSE_BLOCKED));
  const code = <u32>imm;
  const imm8 = <u32>(imm >> SSE_IMM8_SHIFT) & 0xff;
  let p = srcOf(d);
  const isMemory = p == 0 && (code & 0x8000) == 0;
  const isWrite = (imm & (SSE_STORES | SSE_MODIFIES)) != 0;
  if (isMemory) {
    const size = <u32>(imm >> SSE_SIZE_SHIFT) & 0xff;
    const va = ea(d);
    if (imm & SSE_ALIGNED && va & 15) return fail(GP);
    p = imm & SSE_MODIFIES ? modifiable(d, va, size) : isWrite ? writable(d, va, size) : readable(d, va, size);
    if (!p) return FAULT;
  }
  const vector = sseExec(code, dstOf(d), p, imm8);
  if (vector) return fail(vector == 19 && !(cr4() & CR4_OSXMMEXCPT) ? UD : vector);
  if (isMemory && isWrite) commit(p);
  return NEXT;
}

function maskmov(d: usize): u32 {
  const imm = <u32>immOf(d);
  const isMmx = (imm & 0x10) != 0;
  if (isMmx) {
    if (load<u32>(X87_BLOCKED)) return fail(load<u64>(L.CR0) & 4 ? UD : NM);
    if (x87Pending()) return mathFault();
  } else if (load<u32>(SSE_BLOCKED)) return fail(<i32>load<u32>(SSE_BLOCKED));
  const size3 = imm & 3;
  const mask: u64 = size3 == 3 ? ~(<u64>0) : size3 == 2 ? 0xffffffff : 0xffff;
  const segment = <usize>(imm >> 8);
  const offset = load<u64>(RDI) & mask;
  const n: usize = isMmx ? 8 : 16;
  for (let i: usize = 0; i < n; i++) {
    if (!(load<u8>(srcOf(d) + i) & 0x80)) continue;
    const va = segmentAddress(segment, offset + i, 1, true);
    const p = raised ? 0 : writable(d, va, 1);
    if (!p) return FAULT;
    store<u8>(p, load<u8>(dstOf(d) + i));
    commit(p);
  }
  if (isMmx) { store<u16>(L.FSW, load<u16>(L.FSW) & ~0x3800); store<u8>(L.FTAG, 0xff); }
  return NEXT;
}

/** XSAVE, XRSTOR, XSAVEOPT of x87 and SSE state (SDM 1 chapter 13, standard format). imm: modrm.reg, bit 3 REX.W. */
function xsave(d: usize): u32 {
  if (!(cr4() & CR4_OSXSAVE)) return fail(UD);
  if (cr0() & CR0_TS) return fail(NM);
  const va = ea(d);
  if (va & 63) return fail(GP);
  const wanted = (<u64>load<u32>(RAX) | (<u64>load<u32>(RDX) << 32)) & load<u64>(L.XCR0);
  const rexw = (immOf(d) & 8) != 0;
  if ((immOf(d) & 7) == 5) return xrstor(d, va, wanted, rexw);
  if (!copyIn(d, va, 576)) return FAULT;
  memory.copy(IMAGE + 576, IMAGE, 416);
  fxsave(IMAGE, rexw);
  if (!(wanted & 1)) { memory.copy(IMAGE, IMAGE + 576, 24); memory.copy(IMAGE + 32, IMAGE + 576 + 32, 128); }
  if (!(wanted & 2)) { memory.copy(IMAGE + 24, IMAGE + 576 + 24, 8); memory.copy(IMAGE + 160, IMAGE + 576 + 160, 256); }
  store<u64>(IMAGE + 512, (load<u64>(IMAGE + 512) & ~wanted) | wanted);
  return copyOut(d, va, 520) ? NEXT : FAULT;
}

function xrstor(d: usize, va: u64, wanted: u64, rexw: bool): u32 {
  if (!copyIn(d, va, 576)) return FAULT;
  const present = load<u64>(IMAGE + 512);
  if (present & ~load<u64>(L.XCR0) || load<u64>(IMAGE + 520) || load<u64>(IMAGE + 528)) return fail(GP);
  if (wanted & 2 && load<u32>(IMAGE + 24) & 0xffff0000) return fail(GP);
  const mxcsr = wanted & 2 ? load<u32>(IMAGE + 24) : load<u32>(L.MXCSR);
  // State that is not wanted stays; wanted but absent is initialised.
  if (!(wanted & 2)) memory.copy(IMAGE + 160, L.XMM, 256);
  else if (!(present & 2)) memory.fill(IMAGE + 160, 0, 256);
  if (!(wanted & 1)) {
    memory.copy(IMAGE + 576, IMAGE + 160, 256);
    fxsave(IMAGE, rexw);
    memory.copy(IMAGE + 160, IMAGE + 576, 256);
  }
  store<u32>(IMAGE + 24, mxcsr);
  const vector = fxrstor(IMAGE, rexw);
  if (vector) return fail(vector);
  if (wanted & 1 && !(present & 1)) {
    x87Initialise();
    memory.fill(L.FPR, 0, 128);
  }
  return NEXT;
}
