import type { Instruction } from "./int-instructions.ts";
import type { Random } from "./random.ts";
import { CODE, CODE_SIZE, DATA, DATA_SIZE, Pool, STACK, STACK_SIZE } from "./vector.ts";

const RSP = 4,
  RBP = 5;
const isPointer = (index: number): boolean => index >= Pool.DATA && index < Pool.CODE;

/** The low `bytes` of a value, lowest first. */
export function little(value: bigint | number, bytes: number): number[] {
  const v = BigInt.asUintN(64, BigInt(value));
  return Array.from({ length: bytes }, (_, i) => Number((v >> BigInt(8 * i)) & 0xffn));
}

/** A ModRM operand and the REX bits that belong to it. */
export interface ModrmOperand {
  readonly rexB: number;
  readonly rexX: number;
  readonly bytes: number[];
}

/** The registers that one vector starts from, and operands that make sense with them. */
export class Operands {
  readonly #random: Random;
  readonly #pool: BigUint64Array;
  readonly #mode: 64 | 32;
  readonly #single: boolean;
  /** Registers that sequences keep as pointers. */
  readonly #reserved: readonly number[];
  /** Indices into the pool, in encoding order. */
  readonly registers: Uint8Array = new Uint8Array(16);

  constructor(random: Random, pool: BigUint64Array, mode: 64 | 32, single: boolean) {
    this.#random = random;
    this.#pool = pool;
    this.#mode = mode;
    this.#single = single;
    for (let i = 0; i < 16; i++) {
      const kind = random.below(10);
      this.registers[i] =
        kind < 3
          ? Pool.DATA + random.below(Pool.STACK - Pool.DATA)
          : kind < 5
            ? Pool.SMALL + random.below(64)
            : kind < 7
              ? random.below(64)
              : Pool.RANDOM + random.below(64);
    }
    if (!single || random.chance(92)) this.stackPointer(false);
    if (random.chance(50)) this.point(RBP, true);
    this.#reserved =
      mode === 64 ? [random.pick([3, 5]), 8 + random.below(4), 12 + random.below(4), RSP] : [3, 5, RSP];
    if (!single) for (const r of this.#reserved) if (r !== RSP) this.point(r, false);
  }

  /** What register `register` starts from. */
  value(register: number): bigint {
    const value = this.#pool[this.registers[register] ?? 0] ?? 0n;
    return this.#mode === 64 ? value : value & 0xffffffffn;
  }

  /** A register that an instruction may change. */
  operand(): number {
    if (this.#single) return this.#random.below(this.#mode === 64 ? 16 : 8);
    let r: number;
    do r = this.#random.below(this.#mode === 64 ? 16 : 8);
    while (this.#reserved.includes(r));
    return r;
  }

  /** An address for an operand: mostly in the data or stack pages, at times at an edge or outside. */
  target(size: number, wantsStack: boolean): number {
    const r = this.#random;
    const kind = r.below(100);
    if (kind < 4)
      return r.pick([
        DATA - 1,
        DATA + DATA_SIZE - r.below(size + 1),
        CODE + r.below(CODE_SIZE),
        STACK + STACK_SIZE - 1,
        0x1000 + r.below(100),
      ]);
    if (kind < 12) return DATA + 0x1000 - r.below(16);
    if (wantsStack || kind < 16) return STACK + 0x100 + r.below(0xe00);
    if (kind < 55) return DATA + 8 * r.below(DATA_SIZE / 8 - 2);
    return DATA + r.below(DATA_SIZE - 16);
  }

  /** An immediate that suits the instruction. */
  immediate(instruction: Instruction, bytes: number): number[] {
    const r = this.#random;
    if (instruction.care === "shift" || instruction.care === "rotate" || instruction.care === "double") {
      return [r.chance(15) ? 0 : r.chance(20) ? 1 : r.chance(20) ? r.below(256) : r.below(66)];
    }
    if (instruction.care === "int") {
      let n = r.below(256);
      while ([3, 4, 0x80].includes(n)) n = r.below(256);
      return [n];
    }
    return r.chance(50)
      ? little(r.pick([0, 1, -1, 0x7f, 0x80, -128, 0x7fff, 0x8000, 0x7fffffff, 0x80000000, 0xff, 10]), bytes)
      : little(r.u64(), bytes);
  }

  /** A ModRM memory operand, SIB and displacement; `here` is the address behind a RIP-relative form. */
  memory(reg: number, target: number, here: number): ModrmOperand {
    const r = this.#random;
    const registers = this.#mode === 64 ? 16 : 8;
    const usable = (n: number): boolean => this.#single || this.#reserved.includes(n);
    for (let attempt = 0; attempt < 30; attempt++) {
      const form = r.below(10);
      if (form === 0) {
        const displacement = this.#mode === 64 ? target - here : target;
        return { rexB: 0, rexX: 0, bytes: [((reg & 7) << 3) | 5, ...little(displacement, 4)] };
      }
      if (form === 1) return { rexB: 0, rexX: 0, bytes: [((reg & 7) << 3) | 4, 0x25, ...little(target, 4)] };
      const base = r.below(registers);
      if (!isPointer(this.registers[base] ?? 0) && attempt < 25) continue;
      if (!usable(base)) continue;
      const withIndex = form > 5;
      const index = r.below(registers);
      if (withIndex && (index === RSP || (!this.#single && !usable(index)))) continue;
      const scale = r.below(4);
      const sum = this.value(base) + (withIndex ? this.value(index) << BigInt(scale) : 0n);
      let displacement = BigInt.asIntN(64, BigInt(target) - sum);
      if (this.#mode === 32) displacement = BigInt.asIntN(32, displacement);
      if (displacement !== BigInt.asIntN(32, displacement)) continue;
      const short = displacement === BigInt.asIntN(8, displacement);
      const none = displacement === 0n && (base & 7) !== RBP;
      const mod = none && r.chance(80) ? 0 : short && r.chance(80) ? 1 : 2;
      const tail = little(displacement, [0, 1, 4][mod] ?? 0);
      const modrm = (mod << 6) | ((reg & 7) << 3);
      if (withIndex || (base & 7) === RSP) {
        const sib = withIndex
          ? (scale << 6) | ((index & 7) << 3) | (base & 7)
          : 0x20 | (scale << 6) | (base & 7);
        return { rexB: base >> 3, rexX: withIndex ? index >> 3 : 0, bytes: [modrm | 4, sib, ...tail] };
      }
      return { rexB: base >> 3, rexX: 0, bytes: [modrm | (base & 7), ...tail] };
    }
    return { rexB: 0, rexX: 0, bytes: [((reg & 7) << 3) | 4, 0x25, ...little(target, 4)] };
  }

  /** LEA computes from anything. */
  anyAddress(reg: number): ModrmOperand {
    const r = this.#random;
    const mod = r.below(3);
    const rm = r.below(8);
    const bytes = [(mod << 6) | ((reg & 7) << 3) | rm];
    let displacement = [0, 1, 4][mod] ?? 0;
    if (rm === 4) {
      const sib = r.below(256);
      bytes.push(sib);
      if (mod === 0 && (sib & 7) === 5) displacement = 4;
    } else if (mod === 0 && rm === 5) displacement = 4;
    bytes.push(...little(r.u64(), displacement));
    const high = this.#mode === 64 ? r.below(4) : 0;
    return { rexB: high & 1, rexX: high >> 1, bytes };
  }

  /** Makes RSP point into the stack page. */
  stackPointer(aligned: boolean): void {
    this.registers[RSP] = Pool.STACK + this.#random.below(aligned || !this.#single ? 10 : 12);
  }

  /** Makes a register point into the data pages or, at times, the stack. */
  point(register: number, toStack: boolean): void {
    this.registers[register] =
      toStack && this.#random.chance(40)
        ? Pool.STACK + this.#random.below(10)
        : Pool.DATA + this.#random.below(48);
  }
}
