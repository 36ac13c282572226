import { NorthbridgeError } from "@northbridge/core/contracts";
import type { Bits, Immediate, Memory, Register } from "./operands.ts";

/** Code is 16-, 32- or 64-bit. */
export type CodeBits = 16 | 32 | 64;

interface Fixup {
  readonly at: number;
  readonly bytes: 1 | 2 | 4 | 8;
  readonly label: string;
  /** Relative to this offset, or absolute. */
  readonly relativeTo: number | undefined;
}

export interface Encoding {
  readonly opcode: readonly number[];
  /** F2, F3 or 66 as part of the opcode. */
  readonly prefix?: number;
  /** Operand size; 8 and the mode's default take no prefix. */
  readonly bits: Bits;
  /** 64 bits are the default here: no REX.W (PUSH, CALL, MOV CR …). */
  readonly default64?: boolean;
}

const SEGMENT_PREFIX = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const refuse = (what: string): never => {
  throw new NorthbridgeError("NB_BOOT_IMAGE", `assembler: ${what}`);
};

/** Bytes with labels: prefixes, ModRM, SIB and displacement of SDM volume 2 §2. */
export class Encoder {
  readonly origin: number;
  bits: CodeBits;
  readonly #bytes: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixups: Fixup[] = [];

  constructor(origin: number, bits: CodeBits) {
    this.origin = origin;
    this.bits = bits;
  }

  get length(): number {
    return this.#bytes.length;
  }

  label(name: string): void {
    if (this.#labels.has(name)) refuse(`label ${name} is bound twice`);
    this.#labels.set(name, this.#bytes.length);
  }

  /** Address of a bound label. */
  addressOf(name: string): number {
    return this.origin + (this.#labels.get(name) ?? refuse(`label ${name} is not bound`));
  }

  byte(...values: readonly number[]): void {
    for (const value of values) this.#bytes.push(value & 0xff);
  }

  little(value: number | bigint, bytes: number): void {
    let rest = BigInt.asUintN(8 * bytes, BigInt(value));
    for (let i = 0; i < bytes; i++) {
      this.#bytes.push(Number(rest & 0xffn));
      rest >>= 8n;
    }
  }

  immediate(value: Immediate, bytes: 1 | 2 | 4 | 8): void {
    if (typeof value !== "object") {
      this.little(value, bytes);
      return;
    }
    this.#fixups.push({ at: this.length, bytes, label: value.label, relativeTo: undefined });
    this.little(0, bytes);
  }

  /** A displacement to a label from the end of this field. */
  relative(label: string, bytes: 1 | 2 | 4): void {
    this.#fixups.push({ at: this.length, bytes, label, relativeTo: this.length + bytes });
    this.little(0, bytes);
  }

  /** Prefixes and opcode of an instruction without ModRM; `low` is a register in the opcode's low bits. */
  plain(encoding: Encoding, low?: Register): void {
    this.#prefixes(encoding);
    const rex = this.#rexW(encoding) | ((low?.number ?? 0) >> 3);
    this.#rex(rex, low === undefined ? [] : [low]);
    const opcode = [...encoding.opcode];
    const last = opcode.length - 1;
    opcode[last] = (opcode[last] ?? 0) + ((low?.number ?? 0) & 7);
    this.byte(...opcode);
  }

  /** An instruction with ModRM; `bytesAfter` is what of immediates follows it. */
  modrm(encoding: Encoding, reg: Register | number, rm: Register | Memory, bytesAfter = 0): void {
    const number = typeof reg === "number" ? reg : reg.number;
    const registers = [reg, rm].filter((x): x is Register => typeof x === "object" && x.kind === "register");
    if (rm.kind === "memory") {
      if (rm.segment !== undefined) this.byte(SEGMENT_PREFIX[rm.segment.number] ?? 0);
      const addressBits = rm.base?.bits ?? rm.index?.bits ?? this.bits;
      if (addressBits !== this.bits) this.byte(0x67);
    }
    this.#prefixes(encoding);
    const base = rm.kind === "memory" ? (rm.base?.number ?? 0) : rm.number;
    const index = rm.kind === "memory" ? (rm.index?.number ?? 0) : 0;
    this.#rex(this.#rexW(encoding) | ((number >> 3) << 2) | ((index >> 3) << 1) | (base >> 3), registers);
    this.byte(...encoding.opcode);
    if (rm.kind === "register") this.byte(0xc0 | ((number & 7) << 3) | (rm.number & 7));
    else this.#address((number & 7) << 3, rm, bytesAfter);
  }

  /** All labels resolved. Throws `NB_BOOT_IMAGE` naming one that is missing or too far. */
  finish(): Uint8Array {
    const out = Uint8Array.from(this.#bytes);
    for (const { at, bytes, label, relativeTo } of this.#fixups) {
      const target = this.#labels.get(label) ?? refuse(`label ${label} is not bound`);
      const before = new DataView(out.buffer).getInt32(bytes >= 4 ? at : 0, true);
      let value = relativeTo === undefined ? this.origin + target : target - relativeTo;
      if (bytes >= 4) value += before;
      const limit = 2 ** (8 * bytes - 1);
      if (relativeTo !== undefined && (value < -limit || value >= limit)) refuse(`label ${label} is too far`);
      let rest = BigInt.asUintN(8 * bytes, BigInt(value));
      for (let i = 0; i < bytes; i++) {
        out[at + i] = Number(rest & 0xffn);
        rest >>= 8n;
      }
    }
    return out;
  }

  #prefixes({ bits, prefix, default64 }: Encoding): void {
    const operand16 = bits === 16 && this.bits !== 16;
    const operand32 = bits === 32 && this.bits === 16;
    if (operand16 || operand32) this.byte(0x66);
    if (bits === 64 && this.bits !== 64 && default64 !== true) refuse("64-bit operand outside 64-bit code");
    if (prefix !== undefined) this.byte(prefix);
  }

  #rexW({ bits, default64 }: Encoding): number {
    return bits === 64 && default64 !== true ? 8 : 0;
  }

  #rex(rex: number, registers: readonly Register[]): void {
    const needed = rex !== 0 || registers.some((r) => r.bits === 8 && r.high !== true && r.number >= 4);
    if (!needed) return;
    if (this.bits !== 64) refuse("REX outside 64-bit code");
    if (registers.some((r) => r.high === true)) refuse("AH–BH beside a REX prefix");
    this.byte(0x40 | rex);
  }

  #address(reg: number, m: Memory, bytesAfter: number): void {
    const displacement = m.displacement ?? 0;
    const { base, index } = m;
    if ((base?.bits ?? index?.bits ?? this.bits) === 16) {
      if (base !== undefined || index !== undefined) refuse("16-bit addressing takes a displacement only");
      this.byte(reg | 6);
      this.#displacement(displacement, 2, m.label);
      return;
    }
    if (base === undefined && index === undefined) {
      if (this.bits === 64 && m.label !== undefined) {
        this.byte(reg | 5);
        this.#fixups.push({
          at: this.length,
          bytes: 4,
          label: m.label,
          relativeTo: this.length + 4 + bytesAfter,
        });
        this.little(displacement, 4);
        return;
      }
      if (this.bits === 64) this.byte(reg | 4, 0x25);
      else this.byte(reg | 5);
      this.#displacement(displacement, 4, m.label);
      return;
    }
    const short = m.label === undefined && displacement >= -128 && displacement <= 127;
    const none = short && displacement === 0 && base !== undefined && (base.number & 7) !== 5;
    const mod = base === undefined ? 0 : none ? 0 : short ? 0x40 : 0x80;
    if (index !== undefined || base === undefined || (base.number & 7) === 4) {
      if (index?.number === 4) refuse("RSP cannot be an index");
      const scale = [1, 2, 4, 8].indexOf(m.scale ?? 1);
      this.byte(mod | reg | 4, (scale << 6) | (((index?.number ?? 4) & 7) << 3) | ((base?.number ?? 5) & 7));
    } else this.byte(mod | reg | (base.number & 7));
    if (base === undefined || mod === 0x80) this.#displacement(displacement, 4, m.label);
    else if (mod === 0x40) this.little(displacement, 1);
  }

  #displacement(value: number, bytes: 2 | 4, label: string | undefined): void {
    if (label !== undefined) this.#fixups.push({ at: this.length, bytes, label, relativeTo: undefined });
    this.little(value, bytes);
  }
}
