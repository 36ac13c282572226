/** The instructions under test: `assembly/test-entry/sse.ts`, compiled on demand, driven through `sseInfo` and `sseExec`. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { main } from "assemblyscript/asc";
import { FPR, FSW, FTAG, GPR, MXCSR, RFLAGS, SCRATCH, XMM } from "../../src/cpu/layout.ts";
import { CASE_SIZE, CaseField, type Instruction, modrm } from "./case.ts";

type InfoBit =
  | "SIZE"
  | "STORE"
  | "ALIGNED"
  | "IMM8"
  | "RM_GPR"
  | "REG_GPR"
  | "RM_MMX"
  | "REG_MMX"
  | "RM_UPDATE"
  | "NO_REGISTER"
  | "NO_RM"
  | "DS_RDI"
  | "NO_MEMORY";

export const Info: Readonly<Record<InfoBit, number>> = {
  SIZE: 0xff,
  STORE: 1 << 8,
  ALIGNED: 1 << 9,
  IMM8: 1 << 10,
  RM_GPR: 1 << 11,
  REG_GPR: 1 << 12,
  RM_MMX: 1 << 13,
  REG_MMX: 1 << 14,
  RM_UPDATE: 1 << 15,
  NO_REGISTER: 1 << 16,
  NO_RM: 1 << 17,
  DS_RDI: 1 << 18,
  NO_MEMORY: 1 << 20,
};

interface Exports {
  sseInfo(map: number, prefix: number, opcode: number, modrm: number, rexw: number): number;
  sseExec(code: number, reg: number, rm: number, imm: number): number;
}

const PAGES = 4;

export interface Core {
  /** As `sseInfo`; 0 where the encoding is not known. */
  info(instruction: Instruction): number;
  /** Executes a case in place. */
  execute(instruction: Instruction, state: Uint8Array): void;
}

/** Compiles and instantiates the instructions. */
export async function loadCore(): Promise<Core> {
  const root = join(import.meta.dirname, "../..");
  mkdirSync(join(root, "generated"), { recursive: true });
  const { error } = await main([
    "assembly/test-entry/sse.ts",
    "--baseDir",
    root,
    "--outFile",
    "generated/sse-test.wasm",
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
    "131072",
    "--noAssert",
    "-O3",
    "--disableWarning",
    "112",
  ]);
  if (error) throw new Error(`the instructions do not compile: ${error.message}`);
  const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
  const module = await WebAssembly.instantiate(readFileSync(join(root, "generated/sse-test.wasm")), {
    env: { memory },
  });
  const exports = module.instance.exports as unknown as Exports;
  const bytes = new Uint8Array(memory.buffer);

  const info = (i: Instruction): number =>
    exports.sseInfo(i.map, i.prefix, i.opcode, modrm(i), Number(i.rexw));

  const copyIn = (state: Uint8Array): void => {
    bytes.set(state.subarray(CaseField.XMM, CaseField.MM), XMM);
    bytes.set(state.subarray(CaseField.GPR, CaseField.MEM), GPR);
    bytes.set(state.subarray(CaseField.MEM, CaseField.MXCSR), SCRATCH);
    bytes.set(state.subarray(CaseField.MXCSR, CaseField.MXCSR + 4), MXCSR);
    bytes.set(state.subarray(CaseField.FLAGS, CaseField.FLAGS + 4), RFLAGS);
    bytes.set(state.subarray(CaseField.FSW, CaseField.FSW + 2), FSW);
    bytes.set(state.subarray(CaseField.FTAG, CaseField.FTAG + 1), FTAG);
    for (let i = 0; i < 4; i++) {
      bytes.set(state.subarray(CaseField.MM + 8 * i, CaseField.MM + 8 * i + 8), FPR + 16 * i);
      bytes.set(state.subarray(CaseField.EXPONENT + 2 * i, CaseField.EXPONENT + 2 * i + 2), FPR + 16 * i + 8);
    }
  };
  const copyOut = (state: Uint8Array): void => {
    state.set(bytes.subarray(XMM, XMM + 64), CaseField.XMM);
    state.set(bytes.subarray(GPR, GPR + 32), CaseField.GPR);
    state.set(bytes.subarray(SCRATCH, SCRATCH + 16), CaseField.MEM);
    state.set(bytes.subarray(MXCSR, MXCSR + 4), CaseField.MXCSR);
    state.set(bytes.subarray(RFLAGS, RFLAGS + 4), CaseField.FLAGS);
    state.set(bytes.subarray(FSW, FSW + 2), CaseField.FSW);
    state.set(bytes.subarray(FTAG, FTAG + 1), CaseField.FTAG);
    for (let i = 0; i < 4; i++) {
      state.set(bytes.subarray(FPR + 16 * i, FPR + 16 * i + 8), CaseField.MM + 8 * i);
      state.set(bytes.subarray(FPR + 16 * i + 8, FPR + 16 * i + 10), CaseField.EXPONENT + 2 * i);
    }
  };

  return {
    info,
    execute(i, state) {
      if (state.length !== CASE_SIZE)
        throw new RangeError(`a case has ${CASE_SIZE} bytes, this one ${state.length}`);
      const form = info(i);
      copyIn(state);
      const group = (modrm(i) >> 3) & 7;
      const reg =
        form & Info.REG_GPR ? GPR + 8 * group : form & Info.REG_MMX ? FPR + 16 * group : XMM + 16 * group;
      let rm = SCRATCH;
      if (!i.memory)
        rm = form & Info.RM_GPR ? GPR + 8 * i.rm : form & Info.RM_MMX ? FPR + 16 * i.rm : XMM + 16 * i.rm;
      const code =
        i.opcode |
        (i.map << 8) |
        (i.prefix << 12) |
        (Number(i.rexw) << 14) |
        (Number(!i.memory) << 15) |
        (group << 16);
      const trap = exports.sseExec(code, reg, rm, form & Info.DS_RDI ? SCRATCH : i.imm);
      copyOut(state);
      new DataView(state.buffer, state.byteOffset).setUint32(CaseField.TRAP, trap, true);
    },
  };
}
