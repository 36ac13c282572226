import { existsSync, readFileSync } from "node:fs";
import * as L from "../../src/cpu/layout.ts";
import {
  CODE,
  DATA,
  DATA_SIZE,
  GS_BASE,
  IMAGE_SIZE,
  memoryImages,
  memoryRuns,
  type Outcome,
  STACK,
  startValue,
  type Vector,
} from "./vector.ts";

/** Exports of the core this driver uses (assembly/README.md). */
interface CoreExports {
  init(): void;
  resetVcpu(cpu: number): void;
  stateOf(cpu: number): number;
  stateChanged(cpu: number): void;
  run(cpu: number, budget: number): number;
  memoryWritten(pointer: number, length: number): void;
}

/** The part of the WebAssembly API this needs; the compiler's own declaration is part of the DOM library. */
interface WebAssemblyApi {
  readonly Memory: new (descriptor: {
    initial: number;
    maximum: number;
    shared: true;
  }) => {
    readonly buffer: SharedArrayBuffer;
  };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}
const { Memory, Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

const WASM = new URL("../../generated/cpu.wasm", import.meta.url);
const RAM_BYTES = 0x200000;
const PAGES = (L.RAM + RAM_BYTES) >> 16;
// Guest-physical addresses. User pages lie where vectors expect them linearly; this frame is mapped high, for CPL 0.
const GDT = 0,
  TSS = 0x800,
  IDT = 0x1000,
  PML4 = 0x2000,
  PDPT = 0x3000,
  PD = 0x4000,
  PT = 0x5000,
  HIGH_PDPT = 0x8000,
  HIGH_PD = 0x9000;
const CODE_GPA = 0x10000,
  DATA_GPA = 0x12000,
  STACK_GPA = 0x14000,
  KERNEL_STACK = 0x20000,
  HANDLERS = 0x20000;
const HIGH = 0xffff800000000000n;
const WITH_ERROR_CODE = new Set([8, 10, 11, 12, 13, 14, 17, 21]);
/** More than any vector needs. */
const BUDGET = 200_000;

export const coreIsBuilt = (): boolean => existsSync(WASM);

/**
 * The core alone, behind its ABI: user-mode vectors run at CPL 3 with 4-level paging, and every exception lands on
 * an HLT of its own in the kernel half.
 */
export class CoreDriver {
  readonly #core: CoreExports;
  readonly #memory: Uint8Array;
  readonly #view: DataView;
  readonly #images: Uint8Array[] = memoryImages();

  constructor() {
    const memory = new Memory({ initial: PAGES, maximum: PAGES, shared: true });
    const nothing = (): number => 0;
    const env = {
      memory,
      portIn: nothing,
      portOut: nothing,
      mmioRead: nothing,
      mmioWrite: nothing,
      readTsc: nothing,
      readMsr: () => 1,
      writeMsr: () => 1,
      cpuid: nothing,
      cr8Written: nothing,
      acknowledge: () => -1,
      abort: (_message: number, _file: number, line: number): never => {
        throw new Error(`the core aborted at line ${line.toString()}`);
      },
    };
    this.#core = new Instance(new Module(readFileSync(WASM)), { env }).exports as CoreExports;
    this.#memory = new Uint8Array(memory.buffer);
    this.#view = new DataView(memory.buffer);
    this.#core.init();
    const v = this.#view;
    v.setUint32(L.SLOTS, 1, true);
    v.setUint32(L.SLOTS + L.SLOT_SIZE, 0, true);
    v.setUint32(L.SLOTS + L.SLOT_SIZE + 4, RAM_BYTES >> 12, true);
    v.setUint32(L.SLOTS + L.SLOT_SIZE + 8, L.RAM, true);
    v.setUint32(L.SLOTS + L.SLOT_SIZE + 12, 0, true);
    this.#buildFrame();
  }

  #u64(gpa: number, value: bigint): void {
    this.#view.setBigUint64(L.RAM + gpa, value, true);
  }

  #buildFrame(): void {
    const present = 1n,
      write = 2n,
      user = 4n,
      large = 0x80n,
      noExecute = 1n << 63n;
    const table = present | write | user;
    this.#u64(PML4, BigInt(PDPT) | table);
    this.#u64(PDPT, BigInt(PD) | table);
    const page = (linear: number, gpa: number, pt: number, flags: bigint): void => {
      this.#u64(PD + 8 * (linear >> 21), BigInt(pt) | table);
      this.#u64(pt + 8 * ((linear >> 12) & 511), BigInt(gpa) | flags);
    };
    page(CODE, CODE_GPA, PT, present | user);
    page(CODE + 0x1000, CODE_GPA + 0x1000, PT, present | user);
    page(DATA, DATA_GPA, PT + 0x1000, table | noExecute);
    page(DATA + 0x1000, DATA_GPA + 0x1000, PT + 0x1000, table | noExecute);
    page(STACK, STACK_GPA, PT + 0x2000, table | noExecute);
    this.#u64(PML4 + 8 * 256, BigInt(HIGH_PDPT) | present | write);
    this.#u64(HIGH_PDPT, BigInt(HIGH_PD) | present | write);
    this.#u64(HIGH_PD, present | write | large);

    this.#u64(GDT + 0x10, 0x00af9b000000ffffn);
    this.#u64(GDT + 0x18, 0x00cf93000000ffffn);
    this.#u64(GDT + 0x20, 0x00cffb000000ffffn);
    this.#u64(GDT + 0x28, 0x00cff3000000ffffn);
    this.#u64(GDT + 0x30, 0x00affb000000ffffn);
    this.#u64(TSS + 4, HIGH + BigInt(KERNEL_STACK));
    // No I/O permission map: it would begin beyond the limit.
    this.#view.setUint16(L.RAM + TSS + 0x66, 0x68, true);
    for (let vector = 0; vector < 256; vector++) {
      const handler = HIGH + BigInt(HANDLERS + 16 * vector);
      const attributes = vector === 3 || vector === 4 ? 0xee00n : 0x8e00n;
      this.#u64(
        IDT + 16 * vector,
        (handler & 0xffffn) | (0x10n << 16n) | (attributes << 32n) | (((handler >> 16n) & 0xffffn) << 48n),
      );
      this.#u64(IDT + 16 * vector + 8, handler >> 32n);
      this.#memory[L.RAM + HANDLERS + 16 * vector] = 0xf4;
    }
    this.#memory.fill(0xcc, L.RAM + CODE_GPA, L.RAM + CODE_GPA + 0x2000);
    this.#core.memoryWritten(L.RAM, RAM_BYTES);
  }

  #load(vector: Vector, pool: BigUint64Array): void {
    this.#core.resetVcpu(0);
    const at = this.#core.stateOf(0) - L.STATE;
    const v = this.#view;
    const u64 = (field: number, value: bigint): void => {
      v.setBigUint64(at + field, value, true);
    };
    const u32 = (field: number, value: number): void => {
      v.setUint32(at + field, value, true);
    };
    for (let i = 0; i < 16; i++) u64(L.GPR + 8 * i, startValue(vector, pool, i));
    u64(L.RIP, BigInt(CODE + vector.start));
    u64(L.RFLAGS, BigInt(vector.flags | 0x202));
    u64(L.CR0, 0x80050033n);
    u64(L.CR2, 0n);
    u64(L.CR3, BigInt(PML4));
    u64(L.CR4, 0x6a0n);
    u64(L.EFER, 0xd01n);
    const segment = (
      n: number,
      selector: number,
      attributes: number,
      base = 0n,
      limit = 0xffffffff,
    ): void => {
      const s = L.SEG + n * L.SEG_SIZE;
      u64(s + L.SEG_BASE, base);
      u32(s + L.SEG_LIMIT, limit);
      u32(s + L.SEG_ATTR, attributes);
      v.setUint16(at + s + L.SEG_SELECTOR, selector, true);
    };
    segment(0, 0x2b, 0xc0f3);
    segment(1, vector.mode === 64 ? 0x33 : 0x23, vector.mode === 64 ? 0xa0fb : 0xc0fb);
    segment(2, 0x2b, 0xc0f3);
    segment(3, 0x2b, 0xc0f3);
    segment(4, 0, 0x10000);
    segment(5, 0, 0x10000, BigInt(GS_BASE));
    segment(6, 0, 0x10000);
    segment(7, 0x40, 0x8b, HIGH + BigInt(TSS), 0x67);
    u64(L.GDTR, HIGH + BigInt(GDT));
    u32(L.GDTR + 8, 0x7f);
    u64(L.IDTR, HIGH + BigInt(IDT));
    u32(L.IDTR + 8, 0xfff);
    u32(L.HALTED, 0);
    this.#core.stateChanged(0);
  }

  /** Runs one vector; `pieces` cuts the budget into single instructions. */
  run(vector: Vector, pool: BigUint64Array, pieces = false): Outcome {
    const image = this.#images[vector.image] ?? new Uint8Array(IMAGE_SIZE);
    const memory = this.#memory;
    const code = L.RAM + CODE_GPA + vector.start;
    memory.set(vector.code, code);
    this.#core.memoryWritten(code, vector.code.length);
    memory.set(image.subarray(0, DATA_SIZE), L.RAM + DATA_GPA);
    memory.set(image.subarray(DATA_SIZE), L.RAM + STACK_GPA);
    this.#load(vector, pool);
    let exit: number;
    let left = BUDGET;
    do exit = this.#core.run(0, pieces ? 1 : BUDGET);
    while (exit === L.EXIT_PAUSE || (pieces && exit === L.EXIT_BUDGET && --left > 0));
    const outcome = this.#outcome(exit, image);
    memory.fill(0xcc, code, code + vector.code.length);
    this.#core.memoryWritten(code, vector.code.length);
    return outcome;
  }

  #outcome(exit: number, image: Uint8Array): Outcome {
    const at = this.#core.stateOf(0) - L.STATE;
    const v = this.#view;
    const u64 = (field: number): bigint => v.getBigUint64(at + field, true);
    const registers = new BigUint64Array(16);
    for (let i = 0; i < 16; i++) registers[i] = u64(L.GPR + 8 * i);
    const now = new Uint8Array(IMAGE_SIZE);
    now.set(this.#memory.subarray(L.RAM + DATA_GPA, L.RAM + DATA_GPA + DATA_SIZE));
    now.set(this.#memory.subarray(L.RAM + STACK_GPA, L.RAM + STACK_GPA + 0x1000), DATA_SIZE);
    const memory = memoryRuns(image, now);
    const rip = u64(L.RIP);
    const handler = Number(BigInt.asUintN(64, rip - HIGH)) - HANDLERS;
    if (exit !== L.EXIT_HALT || handler < 0 || handler >= 4096) {
      // Not a trap vector of the architecture: the exit code beyond them, so that it shows.
      return {
        trap: 1000 + exit,
        error: v.getUint32(at + L.EXIT_ARG, true),
        cr2: u64(L.CR2),
        rip,
        flags: Number(u64(L.RFLAGS) & 0xffffffffn),
        registers,
        memory,
      };
    }
    const trap = handler >> 4;
    let frame = L.RAM + Number(BigInt.asUintN(64, (registers[4] ?? 0n) - HIGH));
    let error = 0;
    if (WITH_ERROR_CODE.has(trap)) {
      error = v.getUint32(frame, true);
      frame += 8;
    }
    registers[4] = v.getBigUint64(frame + 24, true);
    return {
      trap,
      error,
      cr2: u64(L.CR2),
      rip: v.getBigUint64(frame, true),
      flags: v.getUint32(frame + 16, true),
      registers,
      memory,
    };
  }
}
