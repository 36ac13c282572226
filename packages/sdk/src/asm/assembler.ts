import { NorthbridgeError } from "@northbridge/core/contracts";
import { type CodeBits, Encoder } from "./encoder.ts";
import {
  type Bits,
  type cl,
  type dx,
  type Immediate,
  type Memory,
  type Operand,
  type Register,
  type SegmentRegister,
  type SystemRegister,
} from "./operands.ts";

const ALU = { add: 0, or: 1, adc: 2, sbb: 3, and: 4, sub: 5, xor: 6, cmp: 7 } as const;
const SHIFT = { rol: 0, ror: 1, rcl: 2, rcr: 3, shl: 4, shr: 5, sar: 7 } as const;
const UNARY = { not: 2, neg: 3, mul: 4, imul: 5, div: 6, idiv: 7 } as const;
const CONDITION = {
  o: 0,
  no: 1,
  c: 2,
  b: 2,
  nc: 3,
  ae: 3,
  z: 4,
  e: 4,
  nz: 5,
  ne: 5,
  be: 6,
  a: 7,
  s: 8,
  ns: 9,
  p: 10,
  np: 11,
  l: 12,
  ge: 13,
  le: 14,
  g: 15,
} as const;
/** Instructions that are their bytes. */
const FIXED = {
  nop: [0x90],
  hlt: [0xf4],
  cli: [0xfa],
  sti: [0xfb],
  clc: [0xf8],
  stc: [0xf9],
  cld: [0xfc],
  std: [0xfd],
  cmc: [0xf5],
  ret: [0xc3],
  int3: [0xcc],
  into: [0xce],
  ud2: [0x0f, 0x0b],
  syscall: [0x0f, 0x05],
  sysenter: [0x0f, 0x34],
  sysexit: [0x0f, 0x35],
  sysretd: [0x0f, 0x07],
  sysretq: [0x48, 0x0f, 0x07],
  sysexitq: [0x48, 0x0f, 0x35],
  iretd: [0xcf],
  iretq: [0x48, 0xcf],
  lretq: [0x48, 0xcb],
  lret: [0xcb],
  cpuid: [0x0f, 0xa2],
  rdmsr: [0x0f, 0x32],
  wrmsr: [0x0f, 0x30],
  rdtsc: [0x0f, 0x31],
  clts: [0x0f, 0x06],
  swapgs: [0x0f, 0x01, 0xf8],
  wbinvd: [0x0f, 0x09],
  pause: [0xf3, 0x90],
  mfence: [0x0f, 0xae, 0xf0],
  leave: [0xc9],
  pushf: [0x9c],
  popf: [0x9d],
  pusha: [0x60],
  popa: [0x61],
  fninit: [0xdb, 0xe3],
  emms: [0x0f, 0x77],
  lahf: [0x9f],
  sahf: [0x9e],
  cbw: [0x66, 0x98],
  cdqe: [0x48, 0x98],
  cqo: [0x48, 0x99],
  icebp: [0xf1],
} as const;
const STRING = { movs: 0xa4, cmps: 0xa6, stos: 0xaa, lods: 0xac, scas: 0xae, ins: 0x6c, outs: 0x6e } as const;
const TABLE = { sgdt: [1, 0], sidt: [1, 1], lgdt: [1, 2], lidt: [1, 3], invlpg: [1, 7] } as const;
const bytesOf = (bits: Bits): 1 | 2 | 4 | 8 => (bits / 8) as 1 | 2 | 4 | 8;

/**
 * An assembler for bare-metal guest programs: the subset of x86 that tests and examples need, as methods.
 * Encodings follow SDM volume 2. Jumps take label names and are always near, except where the name says short.
 *
 * @example
 * ```ts
 * const a = new Assembler({ origin: 0x10000 });
 * a.mov(eax, 42);
 * a.out(0xe0, eax);
 * a.op("hlt");
 * const image = a.finish();
 * ```
 */
export class Assembler {
  readonly #encoder: Encoder;
  #unique = 0;

  constructor(options: { readonly origin?: number; readonly bits?: CodeBits } = {}) {
    this.#encoder = new Encoder(options.origin ?? 0, options.bits ?? 64);
  }

  /** Address of the next byte. */
  get here(): number {
    return this.#encoder.origin + this.#encoder.length;
  }

  /** What follows runs in this kind of code segment. */
  bits(bits: CodeBits): void {
    this.#encoder.bits = bits;
  }

  label(name: string): void {
    this.#encoder.label(name);
  }

  /** A name no other label has. */
  unique(stem = "local"): string {
    return `${stem}.${(this.#unique++).toString()}`;
  }

  addressOf(name: string): number {
    return this.#encoder.addressOf(name);
  }

  finish(): Uint8Array {
    return this.#encoder.finish();
  }

  bytes(...values: readonly number[]): void {
    this.#encoder.byte(...values);
  }

  u16(...values: readonly Immediate[]): void {
    for (const value of values) this.#encoder.immediate(value, 2);
  }

  u32(...values: readonly Immediate[]): void {
    for (const value of values) this.#encoder.immediate(value, 4);
  }

  u64(...values: readonly Immediate[]): void {
    for (const value of values) this.#encoder.immediate(value, 8);
  }

  ascii(text: string): void {
    for (let i = 0; i < text.length; i++) this.#encoder.byte(text.charCodeAt(i));
  }

  /** Fills with `fill` to a multiple of `alignment`. */
  align(alignment: number, fill = 0xcc): void {
    while (this.here % alignment !== 0) this.#encoder.byte(fill);
  }

  /** Fills with `fill` up to `address`. */
  org(address: number, fill = 0xcc): void {
    if (address < this.here)
      throw new NorthbridgeError(
        "NB_BOOT_IMAGE",
        `assembler: ${address.toString(16)} is behind ${this.here.toString(16)}`,
      );
    while (this.here < address) this.#encoder.byte(fill);
  }

  /** An instruction without operands. */
  op(name: keyof typeof FIXED): void {
    this.#encoder.byte(...FIXED[name]);
  }

  alu(name: keyof typeof ALU, destination: Register | Memory, source: Operand): void {
    const digit = ALU[name];
    if (typeof source === "object" && source.kind !== "address") {
      this.#registerForms(digit * 8, destination, source);
      return;
    }
    const bits = this.#width(destination);
    const small = typeof source !== "object" && BigInt.asIntN(8, BigInt(source)) === BigInt(source);
    const size = bits === 8 || small ? 1 : bits === 16 ? 2 : 4;
    this.#encoder.modrm(
      { opcode: [bits === 8 ? 0x80 : small ? 0x83 : 0x81], bits },
      digit,
      destination,
      size,
    );
    this.#encoder.immediate(source, size);
  }

  add(destination: Register | Memory, source: Operand): void {
    this.alu("add", destination, source);
  }
  sub(destination: Register | Memory, source: Operand): void {
    this.alu("sub", destination, source);
  }
  and(destination: Register | Memory, source: Operand): void {
    this.alu("and", destination, source);
  }
  or(destination: Register | Memory, source: Operand): void {
    this.alu("or", destination, source);
  }
  xor(destination: Register | Memory, source: Operand): void {
    this.alu("xor", destination, source);
  }
  cmp(destination: Register | Memory, source: Operand): void {
    this.alu("cmp", destination, source);
  }

  /** MOV in all its forms but those of segment, control and debug registers. */
  mov(destination: Register | Memory, source: Operand): void {
    if (typeof source === "object" && source.kind !== "address") {
      this.#registerForms(0x88, destination, source);
      return;
    }
    const bits = this.#width(destination);
    if (destination.kind === "memory") {
      const size = bits === 8 ? 1 : bits === 16 ? 2 : 4;
      this.#encoder.modrm({ opcode: [bits === 8 ? 0xc6 : 0xc7], bits }, 0, destination, size);
      this.#encoder.immediate(source, size);
      return;
    }
    const signed = typeof source !== "object" && BigInt.asIntN(32, BigInt(source)) === BigInt(source);
    if (bits === 64 && signed) {
      this.#encoder.modrm({ opcode: [0xc7], bits }, 0, destination, 4);
      this.#encoder.immediate(source, 4);
      return;
    }
    this.#encoder.plain({ opcode: [bits === 8 ? 0xb0 : 0xb8], bits }, destination);
    this.#encoder.immediate(source, bytesOf(bits));
  }

  movSegment(destination: SegmentRegister, source: Register): void {
    this.#encoder.modrm({ opcode: [0x8e], bits: this.#plainBits() }, destination.number, source);
  }

  readSegment(destination: Register, source: SegmentRegister): void {
    this.#encoder.modrm({ opcode: [0x8c], bits: destination.bits }, source.number, destination);
  }

  movToSystem(destination: SystemRegister, source: Register): void {
    const opcode = [0x0f, destination.kind === "control" ? 0x22 : 0x23];
    this.#encoder.modrm(
      { opcode, bits: source.bits === 64 ? 64 : this.#plainBits(), default64: true },
      destination.number,
      source,
    );
  }

  movFromSystem(destination: Register, source: SystemRegister): void {
    const opcode = [0x0f, source.kind === "control" ? 0x20 : 0x21];
    this.#encoder.modrm(
      { opcode, bits: destination.bits === 64 ? 64 : this.#plainBits(), default64: true },
      source.number,
      destination,
    );
  }

  lea(destination: Register, source: Memory): void {
    this.#encoder.modrm({ opcode: [0x8d], bits: destination.bits }, destination, source);
  }

  /** MOVZX or MOVSX from 8 or 16 bits. */
  extend(name: "movzx" | "movsx", destination: Register, source: Register | Memory): void {
    const wide = this.#width(source) === 16 ? 1 : 0;
    this.#encoder.modrm(
      { opcode: [0x0f, (name === "movzx" ? 0xb6 : 0xbe) + wide], bits: destination.bits },
      destination,
      source,
    );
  }

  unary(name: keyof typeof UNARY, operand: Register | Memory): void {
    const bits = this.#width(operand);
    this.#encoder.modrm({ opcode: [bits === 8 ? 0xf6 : 0xf7], bits }, UNARY[name], operand);
  }

  inc(operand: Register | Memory): void {
    const bits = this.#width(operand);
    this.#encoder.modrm({ opcode: [bits === 8 ? 0xfe : 0xff], bits }, 0, operand);
  }

  dec(operand: Register | Memory): void {
    const bits = this.#width(operand);
    this.#encoder.modrm({ opcode: [bits === 8 ? 0xfe : 0xff], bits }, 1, operand);
  }

  shift(name: keyof typeof SHIFT, operand: Register | Memory, count: number | typeof cl): void {
    const bits = this.#width(operand);
    const wide = bits === 8 ? 0 : 1;
    if (typeof count === "object") {
      this.#encoder.modrm({ opcode: [0xd2 + wide], bits }, SHIFT[name], operand);
      return;
    }
    this.#encoder.modrm({ opcode: [0xc0 + wide], bits }, SHIFT[name], operand, 1);
    this.#encoder.byte(count);
  }

  test(operand: Register | Memory, source: Register | number): void {
    const bits = this.#width(operand);
    const wide = bits === 8 ? 0 : 1;
    if (typeof source === "object") {
      this.#encoder.modrm({ opcode: [0x84 + wide], bits }, source, operand);
      return;
    }
    const size = bits === 8 ? 1 : bits === 16 ? 2 : 4;
    this.#encoder.modrm({ opcode: [0xf6 + wide], bits }, 0, operand, size);
    this.#encoder.little(source, size);
  }

  /** XCHG, XADD, CMPXCHG with memory or a register; `lock` puts F0 before it. */
  exchange(
    name: "xchg" | "xadd" | "cmpxchg",
    operand: Register | Memory,
    source: Register,
    lock = false,
  ): void {
    const wide = source.bits === 8 ? 0 : 1;
    const opcode = { xchg: [0x86 + wide], xadd: [0x0f, 0xc0 + wide], cmpxchg: [0x0f, 0xb0 + wide] }[name];
    if (lock) this.lock();
    this.#encoder.modrm({ opcode, bits: source.bits }, source, operand);
  }

  /** The LOCK prefix of the next instruction. */
  lock(): void {
    this.#encoder.byte(0xf0);
  }

  /** The REP (REPE) prefix of the next instruction. */
  rep(): void {
    this.#encoder.byte(0xf3);
  }

  repne(): void {
    this.#encoder.byte(0xf2);
  }

  string(name: keyof typeof STRING, bits: Bits): void {
    this.#encoder.plain({ opcode: [STRING[name] + (bits === 8 ? 0 : 1)], bits });
  }

  push(operand: Register | Memory | Immediate): void {
    if (typeof operand !== "object" || operand.kind === "address") {
      this.#encoder.byte(0x68);
      this.#encoder.immediate(operand, this.#encoder.bits === 16 ? 2 : 4);
      return;
    }
    const bits = operand.kind === "register" ? operand.bits : this.#encoder.bits;
    if (operand.kind === "register") this.#encoder.plain({ opcode: [0x50], bits, default64: true }, operand);
    else this.#encoder.modrm({ opcode: [0xff], bits, default64: true }, 6, operand);
  }

  pop(operand: Register | Memory): void {
    const bits = operand.kind === "register" ? operand.bits : this.#encoder.bits;
    if (operand.kind === "register") this.#encoder.plain({ opcode: [0x58], bits, default64: true }, operand);
    else this.#encoder.modrm({ opcode: [0x8f], bits, default64: true }, 0, operand);
  }

  jmp(target: string | Register | Memory): void {
    this.#branch(0xe9, 4, target);
  }

  call(target: string | Register | Memory): void {
    this.#branch(0xe8, 2, target);
  }

  /** A conditional near jump: `a.j("nz", "again")`. */
  j(condition: keyof typeof CONDITION, target: string): void {
    this.#encoder.byte(0x0f, 0x80 + CONDITION[condition]);
    this.#encoder.relative(target, this.#encoder.bits === 16 ? 2 : 4);
  }

  jmpShort(target: string): void {
    this.#encoder.byte(0xeb);
    this.#encoder.relative(target, 1);
  }

  /** LOOP: short, by RCX. */
  loop(target: string): void {
    this.#encoder.byte(0xe2);
    this.#encoder.relative(target, 1);
  }

  set(condition: keyof typeof CONDITION, operand: Register | Memory): void {
    this.#encoder.modrm({ opcode: [0x0f, 0x90 + CONDITION[condition]], bits: 8 }, 0, operand);
  }

  /** JMP ptr16:16/32, outside 64-bit code; `bits` is the size of the offset. */
  jmpFar(selector: number, target: Immediate, bits: 16 | 32): void {
    this.#encoder.plain({ opcode: [0xea], bits });
    this.#encoder.immediate(target, bits === 16 ? 2 : 4);
    this.#encoder.little(selector, 2);
  }

  /** JMP m16:32 or, with `bits` 64, m16:64. */
  jmpFarIndirect(target: Memory, bits: 32 | 64 = 32): void {
    this.#encoder.modrm({ opcode: [0xff], bits }, 5, target);
  }

  int(vector: number): void {
    this.#encoder.byte(0xcd, vector);
  }

  /** OUT imm8 or, with `dx`, OUT DX. */
  out(port: number | typeof dx, source: Register): void {
    this.#port(0xe6, port, source.bits);
  }

  in(destination: Register, port: number | typeof dx): void {
    this.#port(0xe4, port, destination.bits);
  }

  /** LGDT, LIDT, SGDT, SIDT, INVLPG. */
  table(name: keyof typeof TABLE, operand: Memory): void {
    const [opcode, digit] = TABLE[name];
    this.#encoder.modrm({ opcode: [0x0f, opcode], bits: this.#plainBits() }, digit, operand);
  }

  ltr(source: Register): void {
    this.#encoder.modrm({ opcode: [0x0f, 0], bits: this.#plainBits() }, 3, source);
  }

  lldt(source: Register): void {
    this.#encoder.modrm({ opcode: [0x0f, 0], bits: this.#plainBits() }, 2, source);
  }

  #branch(near: number, digit: number, target: string | Register | Memory): void {
    if (typeof target === "string") {
      this.#encoder.byte(near);
      this.#encoder.relative(target, this.#encoder.bits === 16 ? 2 : 4);
      return;
    }
    this.#encoder.modrm({ opcode: [0xff], bits: this.#encoder.bits, default64: true }, digit, target);
  }

  #port(base: number, port: number | typeof dx, bits: Bits): void {
    const wide = bits === 8 ? 0 : 1;
    this.#encoder.plain({ opcode: [base + (typeof port === "number" ? 0 : 8) + wide], bits });
    if (typeof port === "number") this.#encoder.byte(port);
  }

  /** The four forms r/m ← r and r ← r/m share one opcode row. */
  #registerForms(base: number, destination: Register | Memory, source: Register | Memory): void {
    if (source.kind === "register") {
      this.#encoder.modrm(
        { opcode: [base + (source.bits === 8 ? 0 : 1)], bits: source.bits },
        source,
        destination,
      );
      return;
    }
    if (destination.kind === "memory")
      throw new NorthbridgeError("NB_BOOT_IMAGE", "assembler: two memory operands");
    this.#encoder.modrm(
      { opcode: [base + (destination.bits === 8 ? 2 : 3)], bits: destination.bits },
      destination,
      source,
    );
  }

  #plainBits(): Bits {
    return this.#encoder.bits === 16 ? 16 : 32;
  }

  #width(operand: Register | Memory): Bits {
    const bits = operand.bits;
    if (bits === undefined)
      throw new NorthbridgeError("NB_BOOT_IMAGE", "assembler: a memory operand without a size");
    return bits;
  }
}
