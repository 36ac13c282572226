/** The unit under test: `assembly/test-entry/x87.ts`, compiled on demand. */
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { main } from "assemblyscript/asc";
import { FCW, FPR, FSW, FTAG, GPR, MODE, RFLAGS } from "../../src/cpu/layout.ts";
import { Field, MEMORY_SIZE, type Outcome, STATE_SIZE, State } from "./records.ts";

/** Exports of the module: x87 and software floating point. */
export interface Unit {
  x87Info(opcode: number, modrm: number, opsize16: number): number;
  x87Exec(opcode: number, modrm: number, pointer: number, rip: bigint, ea: bigint, opsize16: number): number;
  x87Wait(): number;
  x87Reset(): void;
  x87Initialise(): void;
  fxsave(pointer: number, rexw: number): void;
  fxrstor(pointer: number, rexw: number): number;
  sfUseMxcsr(mxcsr: number): void;
  sfClearFlags(): void;
  readonly x87Stored: { readonly value: number };
  readonly sfFlags: { readonly value: number };
  f64Add(a: bigint, b: bigint): bigint;
  f64Sub(a: bigint, b: bigint): bigint;
  f64Mul(a: bigint, b: bigint): bigint;
  f64Div(a: bigint, b: bigint): bigint;
  f64Sqrt(a: bigint): bigint;
  f64Compare(a: bigint, b: bigint, signalling: number): number;
  f64ToI32(a: bigint, truncate: number): number;
  f64ToI64(a: bigint, truncate: number): bigint;
  f64ToF32(a: bigint): number;
  f64RoundToInt(a: bigint, mode: number, suppressPrecision: number): bigint;
  i32ToF64(value: number): bigint;
  i64ToF64(value: bigint): bigint;
  f32Add(a: number, b: number): number;
  f32Sub(a: number, b: number): number;
  f32Mul(a: number, b: number): number;
  f32Div(a: number, b: number): number;
  f32Sqrt(a: number): number;
  f32Compare(a: number, b: number, signalling: number): number;
  f32ToI32(a: number, truncate: number): number;
  f32ToI64(a: number, truncate: number): bigint;
  f32ToF64(a: number): bigint;
  f32RoundToInt(a: number, mode: number, suppressPrecision: number): number;
  i32ToF32(value: number): number;
  i64ToF32(value: bigint): number;
}

export interface LoadedUnit {
  readonly unit: Unit;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Where tests place memory operands: above the state block and the statics. */
export const OPERAND = 0x30000;

const PAGES = 4;
let loaded: Promise<LoadedUnit> | undefined;

/** Compiles and instantiates the unit, once per process. */
export function loadUnit(): Promise<LoadedUnit> {
  loaded ??= compile();
  return loaded;
}

async function compile(): Promise<LoadedUnit> {
  const root = join(import.meta.dirname, "../..");
  // Each test file compiles for itself, perhaps at the same time.
  const output = `generated/x87-test-${process.pid}.wasm`;
  mkdirSync(join(root, "generated"), { recursive: true });
  const { error } = await main([
    "assembly/test-entry/x87.ts",
    "--baseDir",
    root,
    "--outFile",
    output,
    "--runtime",
    "stub",
    "--enable",
    "simd,bulk-memory,threads",
    "--importMemory",
    "--sharedMemory",
    "--initialMemory",
    String(PAGES),
    "--maximumMemory",
    String(PAGES),
    "--memoryBase",
    "65536",
    "--noAssert",
    "-O3",
  ]);
  if (error) throw new Error(`the unit does not compile: ${error.message}`);
  const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
  const module = readFileSync(join(root, output));
  rmSync(join(root, output));
  const { instance } = await WebAssembly.instantiate(module, { env: { memory } });
  const view = new DataView(memory.buffer);
  view.setUint32(MODE, 3, true);
  return {
    unit: instance.exports as unknown as Unit,
    bytes: new Uint8Array(memory.buffer),
    view,
  };
}

/** Executes a record on the unit. */
export function executeOnUnit({ unit, bytes, view }: LoadedUnit, record: Uint8Array): Outcome {
  const r = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const before = record.subarray(Field.BEFORE, Field.AFTER);
  const b = new DataView(before.buffer, before.byteOffset, before.byteLength);
  unit.x87Initialise();
  view.setUint16(FCW, b.getUint16(State.FCW, true), true);
  view.setUint16(FSW, b.getUint16(State.FSW, true), true);
  view.setUint8(FTAG, b.getUint8(State.TAG));
  view.setUint16(GPR, b.getUint16(State.AX, true), true);
  view.setUint32(RFLAGS, r.getUint8(Field.FLAGS_IN) | 2, true);
  const register = (i: number): number => FPR + 16 * (((view.getUint16(FSW, true) >> 11) + i) & 7);
  for (let i = 0; i < 8; i++)
    bytes.set(before.subarray(State.ST + 10 * i, State.ST + 10 * i + 10), register(i));
  bytes.set(before.subarray(State.MEMORY, State.MEMORY + MEMORY_SIZE), OPERAND);

  const opsize16 = r.getUint8(Field.OPSIZE16);
  const vector = unit.x87Exec(r.getUint8(Field.OPCODE), r.getUint8(Field.MODRM), OPERAND, 0n, 0n, opsize16);

  const state = new Uint8Array(STATE_SIZE);
  const after = new DataView(state.buffer);
  after.setUint16(State.FCW, view.getUint16(FCW, true), true);
  after.setUint16(State.FSW, view.getUint16(FSW, true), true);
  after.setUint8(State.TAG, view.getUint8(FTAG));
  after.setUint16(State.AX, view.getUint16(GPR, true), true);
  for (let i = 0; i < 8; i++) state.set(bytes.subarray(register(i), register(i) + 10), State.ST + 10 * i);
  state.set(bytes.subarray(OPERAND, OPERAND + MEMORY_SIZE), State.MEMORY);
  return { vector, flags: view.getUint8(RFLAGS), state };
}
