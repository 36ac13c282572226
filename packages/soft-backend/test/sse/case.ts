/** One instruction with its inputs or outputs, 192 bytes. The C harness `native/sse-vectors.c` has the same layout. */
export const CASE_SIZE = 192;
export const CaseField = {
  XMM: 0, // 4 × 16
  MM: 64, // 4 × 8
  GPR: 96, // RAX, RCX, RDX, RBX
  MEM: 128, // 16 bytes
  MXCSR: 144,
  FLAGS: 148,
  TRAP: 152,
  PLACE: 156,
  LENGTH: 158,
  CODE: 160, // 16 bytes
  FSW: 176,
  FTAG: 178,
  EXPONENT: 180, // 4 × 2
} as const;

/** OF, SF, ZF, AF, PF, CF. */
export const STATUS_FLAGS = 0x8d5;

/** An instruction without its operands. */
export interface Encoding {
  /** 1: 0F, 2: 0F 38, 3: 0F 3A. */
  readonly map: number;
  /** 0: none, 1: 66, 2: F3, 3: F2. */
  readonly prefix: number;
  readonly opcode: number;
  readonly rexw: boolean;
  /** ModRM.reg where it is part of the opcode, else −1. */
  readonly group: number;
  readonly memory: boolean;
}

/** An encoding with its operands chosen. */
export interface Instruction extends Encoding {
  readonly reg: number;
  readonly rm: number;
  readonly imm: number;
}

const PREFIXES = [[], [0x66], [0xf3], [0xf2]];
const MAPS = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
/** The one opcode without ModRM. */
export const EMMS = 0x77;

export function modrm(i: Instruction): number {
  const reg = i.group < 0 ? i.reg : i.group;
  return i.memory ? (reg << 3) | 7 : 0xc0 | (reg << 3) | i.rm;
}

/** Machine code; a memory operand is [RDI]. `imm` is added where `hasImm`. */
export function assemble(i: Instruction, hasImm: boolean): number[] {
  const code = [...PREFIXES[i.prefix]!, ...(i.rexw ? [0x48] : []), ...MAPS[i.map]!, i.opcode];
  if (i.map !== 1 || i.opcode !== EMMS) code.push(modrm(i));
  if (hasImm) code.push(i.imm);
  return code;
}

export function nameOf(e: Encoding): string {
  const hex = (n: number): string => n.toString(16).padStart(2, "0").toUpperCase();
  const bytes = [...PREFIXES[e.prefix]!, ...MAPS[e.map]!, e.opcode].map(hex).join(" ");
  return `${bytes}${e.group < 0 ? "" : ` /${e.group}`}${e.rexw ? " REX.W" : ""} ${e.memory ? "memory" : "register"}`;
}
