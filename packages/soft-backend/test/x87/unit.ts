/** The unit under test: `assembly/test-entry/x87.ts`, compiled on demand. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { main } from "assemblyscript/asc";

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
  const { instance } = await WebAssembly.instantiate(readFileSync(join(root, output)), { env: { memory } });
  return {
    unit: instance.exports as unknown as Unit,
    bytes: new Uint8Array(memory.buffer),
    view: new DataView(memory.buffer),
  };
}
