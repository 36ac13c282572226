/** Width of an operand in bits. */
export type Bits = 8 | 16 | 32 | 64;

/** A general-purpose register. */
export interface Register {
  readonly kind: "register";
  readonly name: string;
  readonly number: number;
  readonly bits: Bits;
  /** AH, CH, DH, BH: encoded as 4–7 without REX. */
  readonly high?: boolean;
}

/** A segment register. */
export interface SegmentRegister {
  readonly kind: "segment";
  readonly name: string;
  readonly number: number;
}

/** CR0–CR8 or DR0–DR7. */
export interface SystemRegister {
  readonly kind: "control" | "debug";
  readonly number: number;
}

/** A place in memory. */
export interface Memory {
  readonly kind: "memory";
  readonly base?: Register | undefined;
  readonly index?: Register | undefined;
  readonly scale?: 1 | 2 | 4 | 8 | undefined;
  readonly displacement?: number | undefined;
  /** The address of a label; RIP-relative in 64-bit code where no base is given. */
  readonly label?: string | undefined;
  readonly segment?: SegmentRegister | undefined;
  /** Needed where no register operand tells it. */
  readonly bits?: Bits | undefined;
}

/** The address of a label as an immediate. */
export interface LabelAddress {
  readonly kind: "address";
  readonly label: string;
}

export type Immediate = number | bigint | LabelAddress;
export type Operand = Register | Memory | Immediate;

/** A memory operand: `mem({ base: rax, displacement: 8 })`, `mem({ label: "counter", bits: 32 })`. */
export const mem = (parts: Omit<Memory, "kind">): Memory => ({ kind: "memory", ...parts });
/** `[base + displacement]`. */
export const at = (base: Register, displacement = 0, bits?: Bits): Memory => ({
  kind: "memory",
  base,
  displacement,
  bits,
});
export const addressOf = (label: string): LabelAddress => ({ kind: "address", label });
export const cr = (number: 0 | 2 | 3 | 4 | 8): SystemRegister => ({ kind: "control", number });
export const dr = (number: 0 | 1 | 2 | 3 | 6 | 7): SystemRegister => ({ kind: "debug", number });

const register = (name: string, number: number, bits: Bits, high = false): Register => ({
  kind: "register",
  name,
  number,
  bits,
  ...(high ? { high } : {}),
});
const segment = (name: string, number: number): SegmentRegister => ({ kind: "segment", name, number });

export const rax: Register = register("rax", 0, 64);
export const rcx: Register = register("rcx", 1, 64);
export const rdx: Register = register("rdx", 2, 64);
export const rbx: Register = register("rbx", 3, 64);
export const rsp: Register = register("rsp", 4, 64);
export const rbp: Register = register("rbp", 5, 64);
export const rsi: Register = register("rsi", 6, 64);
export const rdi: Register = register("rdi", 7, 64);
export const r8: Register = register("r8", 8, 64);
export const r9: Register = register("r9", 9, 64);
export const r10: Register = register("r10", 10, 64);
export const r11: Register = register("r11", 11, 64);
export const r12: Register = register("r12", 12, 64);
export const r13: Register = register("r13", 13, 64);
export const r14: Register = register("r14", 14, 64);
export const r15: Register = register("r15", 15, 64);
export const eax: Register = register("eax", 0, 32);
export const ecx: Register = register("ecx", 1, 32);
export const edx: Register = register("edx", 2, 32);
export const ebx: Register = register("ebx", 3, 32);
export const esp: Register = register("esp", 4, 32);
export const ebp: Register = register("ebp", 5, 32);
export const esi: Register = register("esi", 6, 32);
export const edi: Register = register("edi", 7, 32);
export const r8d: Register = register("r8d", 8, 32);
export const r9d: Register = register("r9d", 9, 32);
export const ax: Register = register("ax", 0, 16);
export const cx: Register = register("cx", 1, 16);
export const dx: Register = register("dx", 2, 16);
export const bx: Register = register("bx", 3, 16);
export const sp: Register = register("sp", 4, 16);
export const al: Register = register("al", 0, 8);
export const cl: Register = register("cl", 1, 8);
export const dl: Register = register("dl", 2, 8);
export const bl: Register = register("bl", 3, 8);
export const ah: Register = register("ah", 4, 8, true);
export const es: SegmentRegister = segment("es", 0);
export const cs: SegmentRegister = segment("cs", 1);
export const ss: SegmentRegister = segment("ss", 2);
export const ds: SegmentRegister = segment("ds", 3);
export const fs: SegmentRegister = segment("fs", 4);
export const gs: SegmentRegister = segment("gs", 5);
