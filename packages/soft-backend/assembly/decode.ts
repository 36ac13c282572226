// Decoder, part 1: blocks, instruction boundaries and prefixes (SDM 2A §2).
import { fetchNextPage, setDecoded, setLength } from "./blocks";
import { decodeTwoByte } from "./decode-0f";
import { decodeOneByte } from "./decode-one-byte";
import { deadFlags, fuse } from "./decode-passes";
import { GP, isFaulted } from "./faults";
import * as o from "./ops";
import {
  begin, clearRex, cpuMode, defaultSizes, emit, emitSlow, end, endsBlock, fetch8, finish, isLocked, isMemory, mayLock, out, pc, rewind,
  set66, setDst, setImm, setLocked, setRep, setRex, setSegment, undefined_,
} from "./record";
import { CS, DS, ES, FS, GS, MODE_64, RECORD, SS, mode } from "./state";

const MAX_INSTRUCTIONS: u32 = 48;
/** Longest instruction (SDM 2A §2.3.11). */
const MAX_LENGTH: u32 = 15;
/** Most bytes decoding looks at: prefixes up to the limit, then the longest rest. */
const LONGEST_READ: u32 = 32;
const FETCH: usize = memory.data(64);

/** Decodes the block at `p`, linear address `va`, into records from `block` on. Returns the end of the records. */
export function decodeBlock(block: usize, p: usize, va: u64): usize {
  const first = <u32>va & 0xfff;
  let offset = first;
  let number: u32 = 0;
  let second: usize = 0;
  let to = block;
  const cpu = mode();
  while (true) {
    const left: u32 = 0x1000 - offset;
    if (left == 0 || number == MAX_INSTRUCTIONS) { to = emitNext(to, number, offset); break; }
    let at = p + (offset - first);
    if (p == 1) { memory.fill(FETCH, 0xff, 16); at = FETCH; }
    else if (left < LONGEST_READ) {
      memory.copy(FETCH, at, left);
      memory.fill(FETCH + left, 0, 32);
      at = FETCH;
    }
    begin(at, to, number, offset, cpu);
    decodeInstruction();
    let length = <u32>(pc - at);
    if (length > left && length <= MAX_LENGTH) {
      if (number > 0) { to = emitNext(to, number, offset); break; }
      second = fetchNextPage(va);
      if (isFaulted()) return to;
      if (second == 1) { memory.fill(FETCH + left, 0xff, 16); second = 0; }
      else memory.copy(FETCH + left, second, 16);
      begin(FETCH, to, number, offset, cpu);
      decodeInstruction();
      length = <u32>(pc - FETCH);
    }
    if (length > MAX_LENGTH) {
      rewind();
      setImm(GP);
      emitSlow(o.S_RAISE, 0);
      end();
    } else if (isLocked && !(mayLock && isMemory)) undefined_();
    finish(length);
    to = out;
    number++;
    offset += length;
    if (endsBlock) break;
    if (second) { to = emitNext(to, number, offset); break; }
  }
  fuse(block, to);
  deadFlags(block, to);
  if (endsBlock && needsNext) { to = emitNext(to, number, offset); }
  // Records know how many instructions are left instead of how many have gone by.
  for (let d = block; d < to; d += RECORD) store<u8>(d, <u8>(number - <u32>load<u8>(d, 6)), 6);
  setLength(block, <i32>number);
  setDecoded(offset - first, second);
  return to;
}

/** The instruction that ends the block does not say where to go on: the next instruction. */
export let needsNext: bool = false;
/** It may also change what its own page maps or the mode: what follows is looked up each time. */
let changesMapping: bool = false;

function emitNext(to: usize, number: u32, offset: u32): usize {
  needsNext = false;
  begin(pc, to, number, offset, cpuMode);
  setDst(0);
  setImm(changesMapping ? 1 : 0);
  emit(o.OP_NEXT);
  finish(0);
  end();
  return out;
}

/** The instruction ends the block (it may change mode, mapping, privilege or interrupts), execution goes on after it. */
export function endSerialized(): void { end(); needsNext = true; }
export function endRemapped(): void { endSerialized(); changesMapping = true; }

export function decodeInstruction(): void {
  needsNext = false;
  changesMapping = false;
  let is67 = false;
  let opcode: u32 = 0;
  let count: u32 = 0;
  while (true) {
    opcode = fetch8();
    if (++count > MAX_LENGTH) return;
    switch (opcode) {
      case 0x26: setLegacySegment(ES); break;
      case 0x2e: setLegacySegment(CS); break;
      case 0x36: setLegacySegment(SS); break;
      case 0x3e: setLegacySegment(DS); break;
      case 0x64: setSegment(FS); clearRex(); break;
      case 0x65: setSegment(GS); clearRex(); break;
      case 0x66: set66(); clearRex(); break;
      case 0x67: is67 = true; clearRex(); break;
      case 0xf0: setLocked(); clearRex(); break;
      case 0xf2: setRep(2); clearRex(); break;
      case 0xf3: setRep(1); clearRex(); break;
      default:
        if (cpuMode == MODE_64 && (opcode & 0xf0) == 0x40) { setRex(opcode & 15); break; }
        defaultSizes(is67);
        if (opcode == 0x0f) decodeTwoByte();
        else decodeOneByte(opcode);
        return;
    }
  }
}

function setLegacySegment(s: u32): void {
  if (cpuMode != MODE_64) setSegment(s); // ignored in 64-bit mode
  clearRex();
}

