/** Records as one program of flat 32-bit code on the whole core: decoder, operands in memory, EFLAGS. */
import { flatGuest } from "../machine/flat-guest.ts";
import { Field, FLAGS, MEMORY_SIZE, type Outcome, STATE_SIZE, State } from "./records.ts";

/** Per record: image for FRSTOR (108 bytes), image of FNSAVE at +128, EFLAGS before and after, AX, the operand at +256. */
const BLOCKS = 0x2_0000;
const BLOCK_SIZE = 0x180;
const SAVED = 112;
const FLAGS_BEFORE = 240;
const FLAGS_AFTER = 244;
const AX_AFTER = 248;
const OPERAND = 256;
/** Some operands straddle a page here. */
const PAGES = 0x9_0000;
const PAGE_SIZE = 0x1000;
const STRADDLING = 100;
const RAM_BYTES = 0x10_0000;

const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

/** Where the operand of record `i` is: every fourth one begins three bytes before a page boundary. */
const operandOf = (i: number): number =>
  i % 4 === 0 && i / 4 < STRADDLING ? PAGES + (i / 4 + 1) * PAGE_SIZE - 3 : BLOCKS + i * BLOCK_SIZE + OPERAND;

function code(record: Uint8Array, i: number): number[] {
  const block = BLOCKS + i * BLOCK_SIZE;
  return [
    ...[0xb8, ...u32(0x1234)], // mov eax, 0x1234
    ...[0xbf, ...u32(operandOf(i))], // mov edi, operand
    ...[0xdd, 0x25, ...u32(block)], // frstor [block]
    ...[0xff, 0x35, ...u32(block + FLAGS_BEFORE), 0x9d], // push dword [flags]; popfd
    ...(record[Field.OPSIZE16] ? [0x66] : []),
    ...record.subarray(Field.OPCODE, Field.OPCODE + 2), // the instruction: a register form, or [edi]
    ...[0x9c, 0x8f, 0x05, ...u32(block + FLAGS_AFTER)], // pushfd; pop dword [flags]
    ...[0xa3, ...u32(block + AX_AFTER)], // mov [ax], eax
    ...[0xdd, 0x35, ...u32(block + SAVED)], // fnsave [saved]
  ];
}

/** Tags of two bits to tags of one. */
const abridge = (tag: number): number =>
  Array.from({ length: 8 }, (_, i) => Number(((tag >> (2 * i)) & 3) !== 3) << i).reduce((a, b) => a | b);

const unabridge = (tag: number): number =>
  Array.from({ length: 8 }, (_, i) => ((tag >> i) & 1 ? 0 : 3) << (2 * i)).reduce((a, b) => a | b);

/** Executes records, each from its own state, with exceptions pending where they are unmasked. */
export async function executeOnCore(records: readonly Uint8Array[]): Promise<Outcome[]> {
  const { vm, ram } = await flatGuest((a) => {
    for (const [i, record] of records.entries()) a.bytes(...code(record, i));
    a.op("hlt");
  });
  const view = new DataView(ram.bytes.buffer, ram.bytes.byteOffset, ram.bytes.byteLength);
  for (const [i, record] of records.entries()) {
    const block = BLOCKS + i * BLOCK_SIZE;
    const before = record.subarray(Field.BEFORE, Field.AFTER);
    const b = new DataView(before.buffer, before.byteOffset, before.byteLength);
    view.setUint16(block, b.getUint16(State.FCW, true), true);
    view.setUint16(block + 4, b.getUint16(State.FSW, true), true);
    view.setUint16(block + 8, unabridge(b.getUint8(State.TAG)), true);
    ram.bytes.set(before.subarray(State.ST, State.ST + 80), block + 28);
    view.setUint32(block + FLAGS_BEFORE, record[Field.FLAGS_IN]! | 2, true);
    ram.bytes.set(before.subarray(State.MEMORY, State.MEMORY + MEMORY_SIZE), operandOf(i));
  }
  vm.memoryWritten(0, RAM_BYTES);
  const exit = await vm.vcpus[0]!.run({});
  if (exit.kind !== "halt") throw new Error(`the program ended with ${JSON.stringify(exit)}`);

  return records.map((_, i) => {
    const block = BLOCKS + i * BLOCK_SIZE;
    const state = new Uint8Array(STATE_SIZE);
    const s = new DataView(state.buffer);
    s.setUint16(State.FCW, view.getUint16(block + SAVED, true), true);
    s.setUint16(State.FSW, view.getUint16(block + SAVED + 4, true), true);
    s.setUint8(State.TAG, abridge(view.getUint16(block + SAVED + 8, true)));
    s.setUint16(State.AX, view.getUint16(block + AX_AFTER, true), true);
    state.set(ram.bytes.subarray(block + SAVED + 28, block + SAVED + 108), State.ST);
    state.set(ram.bytes.subarray(operandOf(i), operandOf(i) + MEMORY_SIZE), State.MEMORY);
    return { vector: 0, flags: view.getUint8(block + FLAGS_AFTER) & FLAGS, state };
  });
}
