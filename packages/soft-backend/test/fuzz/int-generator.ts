import { INTEGER_INSTRUCTIONS, type Instruction } from "./int-instructions.ts";
import { little, Operands } from "./int-operands.ts";
import type { Random } from "./random.ts";
import {
  CODE,
  CODE_SIZE,
  COMPARED_FLAGS,
  DATA,
  Flag,
  GS_BASE,
  IMAGES,
  Pool,
  STACK,
  STATUS_FLAGS,
  type Vector,
} from "./vector.ts";

const RAX = 0,
  RCX = 1,
  RDX = 2,
  RBP = 5,
  RSI = 6,
  RDI = 7;
const STARTS: readonly number[] = [0x800, 0x800, 0x803, 0xff0, 0xffa, 0xffc, 0xffd, 0xffe, 0xfff, 0x1000];
const SEGMENT_PREFIXES: readonly number[] = [0x2e, 0x36, 0x3e, 0x26];

function byChance(instructions: readonly Instruction[]): readonly Instruction[] {
  return instructions.flatMap((i) => Array.from({ length: i.weight ?? 1 }, () => i));
}
const SINGLE: Readonly<Record<64 | 32, readonly Instruction[]>> = {
  64: byChance(INTEGER_INSTRUCTIONS.filter((i) => i.only !== 32)),
  32: byChance(INTEGER_INSTRUCTIONS.filter((i) => i.only !== 64)),
};
const NOT_IN_SEQUENCES = new Set<string | undefined>([
  "trap",
  "int",
  "indirect",
  "relative",
  "loop",
  "enter",
]);
const SEQUENCE: Readonly<Record<64 | 32, readonly Instruction[]>> = {
  64: SINGLE[64].filter((i) => !NOT_IN_SEQUENCES.has(i.care)),
  32: SINGLE[32].filter((i) => !NOT_IN_SEQUENCES.has(i.care) && i.name !== "bound"),
};

/** Builds one vector: encodes instructions and keeps account of which flags are defined. */
class Builder {
  readonly #random: Random;
  readonly #operands: Operands;
  readonly #mode: 64 | 32;
  readonly #start: number;
  readonly #single: boolean;
  readonly registers: Uint8Array;
  readonly code: number[] = [];
  undefinedFlags = 0;
  faultFlagMask: number = COMPARED_FLAGS;

  constructor(random: Random, pool: BigUint64Array, mode: 64 | 32, start: number, single: boolean) {
    this.#random = random;
    this.#mode = mode;
    this.#start = start;
    this.#single = single;
    this.#operands = new Operands(random, pool, mode, single);
    this.registers = this.#operands.registers;
  }

  #prepare(instruction: Instruction): void {
    const r = this.#random;
    const care = instruction.care;
    if (this.#single) {
      if (care === "divide" && r.chance(70))
        this.registers[RDX] = r.pick([0, 0, 36, Pool.SMALL + r.below(64)]);
      if (care === "string" || care === "compareString" || care === "loop") {
        this.registers[RCX] = r.chance(15) ? 0 : r.chance(80) ? r.below(15) : Pool.SMALL + r.below(64);
        if (r.chance(92)) this.#operands.point(RSI, true);
        if (r.chance(92)) this.#operands.point(RDI, true);
      }
      // POPA that faults half-way has written some registers on some processors.
      if (instruction.name === "popa" || care === "popf" || (care === "stack" && r.chance(70)))
        this.#operands.stackPointer(true);
      if (care === "xlat" && r.chance(90)) this.#operands.point(3, false);
      if (care === "align16" && r.chance(50)) this.registers[RDX] = this.registers[RAX] = r.below(3);
      if (care === "enter" || instruction.name === "leave") this.registers[RBP] = Pool.STACK + r.below(10);
      return;
    }
    const small = (register: number, value: number): void => {
      if (this.#mode === 64)
        this.code.push(0x48 | (register >> 3), 0xc7, 0xc0 | (register & 7), ...little(value, 4));
      else this.code.push(0xb8 | register, ...little(value, 4));
    };
    if (care === "divide") small(RDX, r.pick([0, 0, 1, -1]));
    if (care === "popf") this.code.push(0x68, ...little(r.u32() & 0x208cd5, 4));
    if (care === "xlat") small(3, DATA + 0x100 + r.below(0x1c00));
    if (care === "string" || care === "compareString") {
      small(RCX, r.below(20));
      small(RSI, DATA + 0x200 + r.below(0x1a00));
      small(RDI, DATA + 0x200 + r.below(0x1a00));
    }
    if (instruction.name === "leave" || instruction.name === "popa")
      small(RBP, STACK + 0x100 + r.below(0xe00));
  }

  add(instruction: Instruction): void {
    const r = this.#random;
    const { care } = instruction;
    if (!this.#single && (instruction.reads ?? 0) & this.undefinedFlags) {
      this.code.push(r.pick([0x39, 0x01, 0x29]), 0xc0 | ((this.#operands.operand() << 3) & 0x38) | RAX);
      this.undefinedFlags = 0;
    }
    this.#prepare(instruction);

    // Operand size in bits, and the prefixes for it.
    let size = instruction.size === "b" ? 8 : instruction.size === "w" ? 16 : 32;
    const wide = this.#mode === 64;
    if (instruction.size === "v") size = r.pick(wide ? [16, 32, 32, 64, 64] : [16, 32, 32]);
    if (instruction.size === "y") size = wide ? r.pick([32, 64]) : 32;
    if (instruction.size === "q") size = r.chance(15) ? 16 : wide ? 64 : 32;
    let rexW = size === 64 && instruction.size !== "q" ? 8 : 0;
    if (wide && size !== 16 && instruction.size === "q" && r.chance(10)) rexW = 8;
    const prefixes: number[] = [];
    // Writes through CS fault outside 64-bit mode, which the core does not check.
    if (r.chance(4)) prefixes.push(r.pick(wide ? SEGMENT_PREFIXES : SEGMENT_PREFIXES.slice(1)));
    if (size === 16 || (rexW !== 0 && r.chance(3))) prefixes.push(0x66);
    let repeat = 0;
    if (care === "string" || care === "compareString") {
      repeat = r.pick([0, 0xf3, 0xf3, 0xf2]);
      if (repeat !== 0) prefixes.push(repeat);
    }

    const immediateBytes =
      instruction.imm === undefined
        ? 0
        : instruction.imm === "b"
          ? 1
          : instruction.imm === "w"
            ? 2
            : instruction.imm === "wb"
              ? 3
              : instruction.imm === "z"
                ? size === 16
                  ? 2
                  : 4
                : size / 8;
    let immediate = this.#operands.immediate(instruction, immediateBytes);
    if (instruction.imm === "wb") immediate = [...little(r.below(0x80), 2), r.chance(60) ? 0 : r.below(8)];
    if (care === "relative" || care === "loop")
      immediate = little(r.chance(60) ? 1 + r.below(100) : -20 - r.below(80), immediateBytes);
    if (care === "double" && size === 16)
      immediate = [((immediate[0] ?? 0) & 0xe0) | ((immediate[0] ?? 0) % 17)];

    const opcode = [...instruction.opcode];
    let rex = rexW;
    let operand: number[] = [];
    let inMemory = false;
    let addressSize = false;
    const reg = instruction.digit ?? this.#operands.operand();
    const operandBytes =
      instruction.name === "movzx" || instruction.name === "movsx"
        ? ((opcode[1] ?? 0) & 1) + 1
        : care === "align16"
          ? size / 4
          : size / 8;
    if (instruction.form === "rm") {
      inMemory = instruction.rm === "mem" || (instruction.rm !== "reg" && r.chance(45));
      const prefixed = instruction.prefix === undefined ? 0 : 1;
      if (inMemory) {
        if (care === "bitString") this.#nearBit(reg, r);
        let target = this.#operands.target(operandBytes, care === "stack");
        if (care === "align16" && r.chance(80)) target &= ~15;
        if (care === "divide" && this.#single && r.chance(50)) target &= ~7;
        const gs = this.#mode === 64 && care !== "lea" && r.chance(4);
        if (gs) {
          prefixes.push(0x65);
          target -= GS_BASE;
        }
        addressSize = this.#mode === 64 && r.chance(6) && !gs;
        // A REX prefix is always there in this estimate; RIP-relative targets may be off by one, which does no harm.
        const before =
          this.code.length + prefixes.length + prefixed + (addressSize ? 1 : 0) + 1 + opcode.length;
        const behind = CODE + this.#start + before + 5 + immediateBytes;
        const memory =
          care === "lea" ? this.#operands.anyAddress(reg) : this.#operands.memory(reg, target, behind);
        operand = memory.bytes;
        rex |= memory.rexB | (memory.rexX << 1);
        if (addressSize) prefixes.push(0x67);
      } else {
        const rm = this.#operands.operand();
        operand = [0xc0 | ((reg & 7) << 3) | (rm & 7)];
        rex |= rm >> 3;
      }
      if (instruction.digit === undefined) rex |= (reg >> 3) << 2;
      else if (wide && r.chance(5)) rex |= 4;
    } else if (instruction.form === "o") {
      const n = this.#operands.operand();
      opcode[opcode.length - 1] = (opcode[opcode.length - 1] ?? 0) + (n & 7);
      rex |= n >> 3;
    } else if (care === "moffs") {
      const bytes = wide ? (r.chance(15) ? 4 : 8) : 4;
      if (wide && bytes === 4) prefixes.push(0x67);
      operand = little(this.#operands.target(size / 8, false), bytes);
      inMemory = true;
    } else if ((care === "string" || care === "compareString" || care === "loop") && wide && r.chance(8))
      prefixes.push(0x67);
    const canLock =
      instruction.lock === true &&
      inMemory &&
      !(
        instruction.form === "rm" &&
        instruction.digit === undefined &&
        ((opcode[0] ?? 0) & 2) !== 0 &&
        opcode.length === 1 &&
        (opcode[0] ?? 0) < 0x40
      );
    if (canLock && r.chance(15)) prefixes.unshift(0xf0);
    if (instruction.prefix !== undefined) prefixes.push(instruction.prefix);

    this.code.push(...prefixes);
    if (wide && (rex !== 0 || rexW !== 0 || r.chance(size === 8 ? 40 : 5))) this.code.push(0x40 | rex);
    this.code.push(...opcode, ...operand, ...immediate);
    this.#account(instruction, size, immediate[0] ?? 0, repeat);
  }

  /** A register bit offset that stays in the data pages. */
  #nearBit(reg: number, r: Random): void {
    if (this.#single) {
      if (r.chance(80)) this.registers[reg] = r.chance(50) ? Pool.SMALL + r.below(64) : r.below(28);
    } else if (this.#mode === 64)
      this.code.push(0x48 | (reg >> 3), 0xc7, 0xc0 | (reg & 7), ...little(r.between(-3000, 3000), 4));
    else this.code.push(0xb8 | reg, ...little(r.between(-3000, 3000), 4));
  }

  #account(instruction: Instruction, size: number, immediate: number, repeat: number): void {
    let { undef = 0 } = instruction;
    let writes = instruction.writes ?? 0;
    const { care } = instruction;
    const byCl = care === "shiftCl" || care === "rotateCl" || care === "doubleCl";
    if (care === "shift" || care === "rotate" || care === "double" || byCl) {
      const known = !byCl || this.#single;
      const count = (byCl ? Number(this.#operands.value(RCX) & 0xffn) : immediate) & (size === 64 ? 63 : 31);
      if (known && count === 0) undef = writes = 0;
      else if (known && count === 1) undef &= ~Flag.OF;
      if (!known) writes = 0;
      const shifts = care === "shift" || care === "shiftCl";
      if (shifts && size < 32 && (!known || count >= size)) undef |= Flag.CF;
      if (care === "doubleCl" && size === 16) undef |= STATUS_FLAGS;
    }
    if (care === "compareString" && repeat !== 0) {
      writes = 0;
      if (this.#single) this.faultFlagMask &= ~STATUS_FLAGS;
    }
    this.undefinedFlags = (this.undefinedFlags & ~writes) | undef;
    if (care === "divide" || undef !== 0) this.faultFlagMask &= ~undef;
    if (!this.#single) this.faultFlagMask &= ~this.undefinedFlags;
  }

  /** Defines every flag: a comparison or an addition of any size, of registers or with an immediate. */
  #compare(): void {
    const r = this.#random;
    const wide = this.#mode === 64;
    const size = r.pick(wide ? [8, 16, 32, 32, 64, 64] : [8, 16, 32, 32]);
    const left = this.#operands.operand();
    const right = this.#operands.operand();
    if (size === 16) this.code.push(0x66);
    const byImmediate = r.chance(40);
    const rex = (size === 64 ? 8 : 0) | (byImmediate ? 0 : (left >> 3) << 2) | (right >> 3);
    if (wide) this.code.push(0x40 | rex);
    const v = size === 8 ? 0 : 1;
    if (byImmediate) {
      // ADD, SUB, CMP with imm8.
      this.code.push(
        size === 8 ? 0x80 : 0x83,
        0xc0 | (r.pick([0, 5, 7, 7]) << 3) | (right & 7),
        r.pick([0, 0, 1, 0xff, 0x7f, 0x80, r.below(256)]),
      );
    } else this.code.push(r.pick([0x38, 0x38, 0x3a, 0x28, 0x00]) | v, 0xc0 | ((left & 7) << 3) | (right & 7));
    this.undefinedFlags = 0;
  }

  /** A forward branch over the next instruction. */
  branchOver(next: () => void): void {
    const r = this.#random;
    if (this.undefinedFlags !== 0 || r.chance(60)) this.#compare();
    const cc = r.below(16);
    const kind = r.below(10);
    const long = r.chance(30);
    const hole = this.code.length + (kind < 7 ? (long ? 2 : 1) : 1);
    if (kind < 7) this.code.push(...(long ? [0x0f, 0x80 + cc, 0, 0, 0, 0] : [0x70 + cc, 0]));
    else if (kind < 8) this.code.push(0xe3, 0);
    else if (kind < 9) this.code.push(0xeb, 0);
    else this.code.push(0xe8, 0, 0, 0, 0);
    const wideHole = (kind < 7 && long) || kind === 9;
    const from = this.code.length;
    const before = this.undefinedFlags;
    next();
    this.code[hole] = (this.code.length - from) & 0xff;
    if (wideHole) this.code[hole + 1] = (this.code.length - from) >> 8;
    this.undefinedFlags |= before;
  }

  /** `mov ecx, n; again: …; loop again`, which ends because the body leaves RCX alone. */
  countedLoop(body: readonly number[]): void {
    this.code.push(0xf8);
    this.code.push(0xb9, ...little(1 + this.#random.below(6), 4));
    const from = this.code.length;
    // LOOP, or DEC and JNZ.
    if (this.#random.chance(50)) this.code.push(...body, 0xe2, 0);
    else this.code.push(...body, 0xff, 0xc9, 0x75, 0);
    this.code[this.code.length - 1] = (from - this.code.length) & 0xff;
    this.undefinedFlags = 0;
  }

  /** CALL to a RET behind a jump: a call that returns. */
  callAndReturn(): void {
    // jmp +1; ret; call -6
    const pop = this.#random.chance(30);
    if (pop) this.code.push(0x6a, 0x11, 0xeb, 0x03, 0xc2, 0x08, 0x00, 0xe8, 0xf8, 0xff, 0xff, 0xff);
    else this.code.push(0xeb, 0x01, 0xc3, 0xe8, 0xfa, 0xff, 0xff, 0xff);
    if (pop && this.#mode === 32) this.code.push(0x83, 0xc4, 0xfc);
  }
}

/** 16-bit double shifts by CL are only defined for counts up to 16: the generator keeps to immediates there. */
function undefinedResult(instruction: Instruction, code: readonly number[]): boolean {
  return instruction.care === "doubleCl" && code.includes(0x66);
}

/** A vector of one instruction, or of several. */
export function randomVector(random: Random, pool: BigUint64Array): Vector {
  for (;;) {
    const mode = random.chance(80) ? 64 : 32;
    const single = random.chance(65);
    const atEnd = single && random.chance(1);
    const start = atEnd ? CODE_SIZE - 1 - random.below(4) : random.pick(STARTS);
    const builder = new Builder(random, pool, mode, start, single);
    let usable = true;
    const add = (): void => {
      const instruction = random.pick((single ? SINGLE : SEQUENCE)[mode]);
      const from = builder.code.length;
      builder.add(instruction);
      // Processors differ on whether an invalid opcode or the absent byte behind it faults first.
      if (atEnd && instruction.care === "trap") usable = false;
      if (undefinedResult(instruction, builder.code.slice(from))) usable = false;
    };
    if (single) add();
    else {
      for (let n = random.between(2, random.chance(20) ? 24 : 8); n > 0; n--) {
        const kind = random.below(20);
        if (kind < 2) builder.branchOver(add);
        else if (kind === 2)
          builder.countedLoop(
            random.pick([
              [0x01, 0xd0],
              [0x11, 0xd0, 0xd1, 0xd2],
              [0x83, 0xd0, 0x01],
              [0x29, 0xf8, 0x19, 0xfa],
              [0x0f, 0xaf, 0xc2, 0x39, 0xc2],
              [0xa8, 0x01, 0x0f, 0x44, 0xc2],
            ]),
          );
        else if (kind === 3) builder.callAndReturn();
        else add();
      }
    }
    if (!usable || builder.code.length > 250) continue;
    const code = Uint8Array.from(builder.code.slice(0, CODE_SIZE - start));
    let flags = random.u32() & STATUS_FLAGS;
    if (random.chance(20)) flags |= Flag.DF;
    return {
      mode,
      start,
      code,
      registers: builder.registers,
      flags,
      image: random.below(IMAGES),
      flagMask: COMPARED_FLAGS & ~builder.undefinedFlags,
      faultFlagMask: builder.faultFlagMask,
    };
  }
}
