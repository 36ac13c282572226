import { Flag, STATUS_FLAGS } from "./vector.ts";

const { CF, PF, AF, ZF, SF, DF, OF } = Flag;
const ALL = STATUS_FLAGS;

/**
 * What the generator must do so that an instruction usually succeeds and its flags are predictable:
 * a small count, a divisor that divides, a bit offset that stays near, string pointers, a stack …
 */
export type Care =
  | "shift"
  | "shiftCl"
  | "rotate"
  | "rotateCl"
  | "double"
  | "doubleCl"
  | "divide"
  | "bitString"
  | "string"
  | "compareString"
  | "stack"
  | "enter"
  | "popf"
  | "relative"
  | "loop"
  | "indirect"
  | "lea"
  | "scan"
  | "align16"
  | "moffs"
  | "xlat"
  | "int"
  | "trap";

/** One opcode of the SDM's volume 2 tables. */
export interface Instruction {
  readonly name: string;
  readonly opcode: readonly number[];
  /** F2, F3 or 66 as part of the opcode. */
  readonly prefix?: number;
  /** Digit of `/digit`; with `form: "rm"` and none, the reg field is an operand. */
  readonly digit?: number;
  readonly form: "none" | "rm" | "o";
  /** b: 8 bits; v: 16, 32, 64; q: 16 or the default of the stack; w, d: fixed. */
  readonly size: "b" | "v" | "q" | "w" | "d" | "y";
  readonly rm?: "mem" | "reg";
  /** b: imm8; z: imm16 or sign-extended imm32; w: imm16; v: up to imm64. */
  readonly imm?: "b" | "z" | "w" | "v" | "wb";
  readonly reads?: number;
  readonly writes?: number;
  readonly undef?: number;
  readonly lock?: boolean;
  readonly care?: Care;
  /** 32: only outside 64-bit mode; 64: only in it. */
  readonly only?: 32 | 64;
  /** How much more often than others. @defaultValue 1 */
  readonly weight?: number;
}

const ADD = { writes: ALL } as const;
const LOGIC = { writes: ALL & ~AF, undef: AF } as const;
const ALU_NAMES = ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"];

/** Flags that condition code `cc` (0–15) tests. */
export function conditionFlags(cc: number): number {
  return [OF, CF, ZF, CF | ZF, SF, PF, SF | OF, ZF | SF | OF][cc >> 1] ?? 0;
}

function alu(): Instruction[] {
  return ALU_NAMES.flatMap((name, op): Instruction[] => {
    const flags = [1, 4, 6].includes(op) ? LOGIC : { ...ADD, reads: op === 2 || op === 3 ? CF : 0 };
    const lock = op !== 7;
    const base = op * 8;
    return [
      { name, opcode: [base], form: "rm", size: "b", lock, ...flags },
      { name, opcode: [base + 1], form: "rm", size: "v", lock, weight: 2, ...flags },
      { name, opcode: [base + 2], form: "rm", size: "b", ...flags },
      { name, opcode: [base + 3], form: "rm", size: "v", ...flags },
      { name, opcode: [base + 4], form: "none", size: "b", imm: "b", ...flags },
      { name, opcode: [base + 5], form: "none", size: "v", imm: "z", ...flags },
      { name, opcode: [0x80], digit: op, form: "rm", size: "b", imm: "b", lock, ...flags },
      { name, opcode: [0x81], digit: op, form: "rm", size: "v", imm: "z", lock, ...flags },
      { name, opcode: [0x83], digit: op, form: "rm", size: "v", imm: "b", lock, ...flags },
      { name, opcode: [0x82], digit: op, form: "rm", size: "b", imm: "b", only: 32, ...flags },
    ];
  });
}

function shifts(): Instruction[] {
  return [0, 1, 2, 3, 4, 5, 6, 7].flatMap((digit): Instruction[] => {
    const rotate = digit < 4;
    const name = ["rol", "ror", "rcl", "rcr", "shl", "shr", "sal", "sar"][digit] ?? "";
    const reads = digit === 2 || digit === 3 ? CF : 0;
    const writes = rotate ? CF | OF : ALL & ~AF;
    const one = { reads, writes, undef: rotate ? 0 : AF };
    const many = { reads, writes, undef: rotate ? OF : AF | OF };
    return (["b", "v"] as const).flatMap((size, v): Instruction[] => [
      {
        name,
        opcode: [0xc0 + v],
        digit,
        form: "rm",
        size,
        imm: "b",
        care: rotate ? "rotate" : "shift",
        ...many,
      },
      { name, opcode: [0xd0 + v], digit, form: "rm", size, ...one },
      { name, opcode: [0xd2 + v], digit, form: "rm", size, care: rotate ? "rotateCl" : "shiftCl", ...many },
    ]);
  });
}

function conditions(): Instruction[] {
  return Array.from({ length: 16 }, (_, cc) => cc).flatMap((cc): Instruction[] => {
    const reads = conditionFlags(cc);
    return [
      { name: `cmov${cc.toString(16)}`, opcode: [0x0f, 0x40 + cc], form: "rm", size: "v", reads },
      { name: `set${cc.toString(16)}`, opcode: [0x0f, 0x90 + cc], form: "rm", size: "b", reads },
      {
        name: `j${cc.toString(16)}`,
        opcode: [0x70 + cc],
        form: "none",
        size: "d",
        care: "relative",
        imm: "b",
        reads,
      },
      {
        name: `j${cc.toString(16)}`,
        opcode: [0x0f, 0x80 + cc],
        form: "none",
        size: "d",
        care: "relative",
        imm: "z",
        reads,
      },
    ];
  });
}

function strings(): Instruction[] {
  const moves: Instruction[] = [0xa4, 0xaa, 0xac].flatMap((op) =>
    (["b", "v"] as const).map(
      (size, v): Instruction => ({
        name: "str",
        opcode: [op + v],
        form: "none",
        size,
        care: "string",
        reads: DF,
        weight: 3,
      }),
    ),
  );
  const compares: Instruction[] = [0xa6, 0xae].flatMap((op) =>
    (["b", "v"] as const).map(
      (size, v): Instruction => ({
        name: "cmpstr",
        opcode: [op + v],
        form: "none",
        size,
        care: "compareString",
        reads: DF,
        writes: ALL,
        weight: 3,
      }),
    ),
  );
  return [...moves, ...compares];
}

const group = (
  name: string,
  opcode: readonly number[],
  digit: number,
  rest: Omit<Instruction, "name" | "opcode" | "digit" | "form">,
): Instruction => ({
  name,
  opcode,
  digit,
  form: "rm",
  ...rest,
});

function unary(): Instruction[] {
  return (["b", "v"] as const).flatMap((size, v): Instruction[] => [
    group("test", [0xf6 + v], 0, { size, imm: v === 0 ? "b" : "z", ...LOGIC }),
    group("test", [0xf6 + v], 1, { size, imm: v === 0 ? "b" : "z", ...LOGIC }),
    group("not", [0xf6 + v], 2, { size, lock: true }),
    group("neg", [0xf6 + v], 3, { size, lock: true, ...ADD }),
    group("mul", [0xf6 + v], 4, { size, writes: CF | OF, undef: SF | ZF | AF | PF, weight: 2 }),
    group("imul", [0xf6 + v], 5, { size, writes: CF | OF, undef: SF | ZF | AF | PF, weight: 2 }),
    group("div", [0xf6 + v], 6, { size, undef: ALL, care: "divide", weight: 3 }),
    group("idiv", [0xf6 + v], 7, { size, undef: ALL, care: "divide", weight: 3 }),
    group("inc", [0xfe + v], 0, { size, lock: true, writes: ALL & ~CF }),
    group("dec", [0xfe + v], 1, { size, lock: true, writes: ALL & ~CF }),
    { name: "xchg", opcode: [0x86 + v], form: "rm", size, lock: true },
    { name: "test", opcode: [0x84 + v], form: "rm", size, ...LOGIC },
    { name: "test", opcode: [0xa8 + v], form: "none", size, imm: v === 0 ? "b" : "z", ...LOGIC },
    { name: "mov", opcode: [0x88 + v], form: "rm", size },
    { name: "mov", opcode: [0x8a + v], form: "rm", size },
    { name: "mov", opcode: [0xb0 + v * 8], form: "o", size, imm: v === 0 ? "b" : "v" },
    group("mov", [0xc6 + v], 0, { size, imm: v === 0 ? "b" : "z" }),
    { name: "movmoffs", opcode: [0xa0 + v], form: "none", size, care: "moffs" },
    { name: "movmoffs", opcode: [0xa2 + v], form: "none", size, care: "moffs" },
    { name: "xadd", opcode: [0x0f, 0xc0 + v], form: "rm", size, lock: true, ...ADD },
    { name: "cmpxchg", opcode: [0x0f, 0xb0 + v], form: "rm", size, lock: true, weight: 2, ...ADD },
    { name: "movzx", opcode: [0x0f, 0xb6 + v], form: "rm", size: "v" },
    { name: "movsx", opcode: [0x0f, 0xbe + v], form: "rm", size: "v" },
  ]);
}

function bits(): Instruction[] {
  const tests = [0xa3, 0xab, 0xb3, 0xbb].flatMap((op, i): Instruction[] => {
    const flags = { writes: CF, undef: OF | SF | AF | PF, lock: i > 0 };
    return [
      { name: "bt", opcode: [0x0f, op], form: "rm", size: "v", care: "bitString", weight: 2, ...flags },
      group("bt", [0x0f, 0xba], 4 + i, { size: "v", imm: "b", ...flags }),
    ];
  });
  const doubles = [0xa4, 0xac].flatMap((op): Instruction[] => [
    {
      name: "shxd",
      opcode: [0x0f, op],
      form: "rm",
      size: "v",
      imm: "b",
      care: "double",
      writes: ALL & ~AF,
      undef: AF | OF,
      weight: 2,
    },
    {
      name: "shxd",
      opcode: [0x0f, op + 1],
      form: "rm",
      size: "v",
      care: "doubleCl",
      writes: ALL & ~AF,
      undef: AF | OF,
      weight: 2,
    },
  ]);
  return [
    ...tests,
    ...doubles,
    {
      name: "bsf",
      opcode: [0x0f, 0xbc],
      form: "rm",
      size: "v",
      care: "scan",
      writes: ZF,
      undef: ALL & ~ZF,
      weight: 2,
    },
    {
      name: "bsr",
      opcode: [0x0f, 0xbd],
      form: "rm",
      size: "v",
      care: "scan",
      writes: ZF,
      undef: ALL & ~ZF,
      weight: 2,
    },
    { name: "bswap", opcode: [0x0f, 0xc8], form: "o", size: "y", weight: 2 },
    { name: "popcnt", opcode: [0x0f, 0xb8], prefix: 0xf3, form: "rm", size: "v", writes: ALL, weight: 2 },
    { name: "crc32", opcode: [0x0f, 0x38, 0xf0], prefix: 0xf2, form: "rm", size: "b" },
    { name: "crc32", opcode: [0x0f, 0x38, 0xf1], prefix: 0xf2, form: "rm", size: "v", weight: 2 },
    group("cmpxchg8b", [0x0f, 0xc7], 1, {
      size: "y",
      rm: "mem",
      lock: true,
      writes: ZF,
      care: "align16",
      weight: 4,
    }),
  ];
}

function stackAndFlow(): Instruction[] {
  return [
    { name: "push", opcode: [0x50], form: "o", size: "q", care: "stack", weight: 2 },
    { name: "pop", opcode: [0x58], form: "o", size: "q", care: "stack", weight: 2 },
    group("push", [0xff], 6, { size: "q", care: "stack", weight: 2 }),
    group("pop", [0x8f], 0, { size: "q", care: "stack", weight: 3 }),
    { name: "push", opcode: [0x68], form: "none", size: "q", imm: "z", care: "stack" },
    { name: "push", opcode: [0x6a], form: "none", size: "q", imm: "b", care: "stack" },
    { name: "pushf", opcode: [0x9c], form: "none", size: "q", care: "stack", reads: ALL, weight: 2 },
    { name: "popf", opcode: [0x9d], form: "none", size: "q", care: "popf", writes: ALL, weight: 2 },
    { name: "enter", opcode: [0xc8], form: "none", size: "q", imm: "wb", care: "enter", weight: 2 },
    { name: "leave", opcode: [0xc9], form: "none", size: "q", care: "stack", weight: 2 },
    { name: "pushfs", opcode: [0x0f, 0xa0], form: "none", size: "q", care: "stack" },
    { name: "pushgs", opcode: [0x0f, 0xa8], form: "none", size: "q", care: "stack" },
    { name: "jmp", opcode: [0xeb], form: "none", size: "d", imm: "b", care: "relative" },
    { name: "jmp", opcode: [0xe9], form: "none", size: "d", imm: "z", care: "relative" },
    { name: "call", opcode: [0xe8], form: "none", size: "d", imm: "z", care: "relative", weight: 2 },
    { name: "loopnz", opcode: [0xe0], form: "none", size: "d", imm: "b", care: "loop", reads: ZF },
    { name: "loopz", opcode: [0xe1], form: "none", size: "d", imm: "b", care: "loop", reads: ZF },
    { name: "loop", opcode: [0xe2], form: "none", size: "d", imm: "b", care: "loop" },
    { name: "jrcxz", opcode: [0xe3], form: "none", size: "d", imm: "b", care: "loop" },
    { name: "ret", opcode: [0xc3], form: "none", size: "d", care: "indirect" },
    { name: "ret", opcode: [0xc2], form: "none", size: "d", imm: "w", care: "indirect" },
    group("call", [0xff], 2, { size: "d", care: "indirect" }),
    group("jmp", [0xff], 4, { size: "d", care: "indirect" }),
  ];
}

function miscellany(): Instruction[] {
  return [
    { name: "lea", opcode: [0x8d], form: "rm", rm: "mem", size: "v", care: "lea", weight: 6 },
    { name: "movsxd", opcode: [0x63], form: "rm", size: "y", only: 64, weight: 2 },
    {
      name: "imul",
      opcode: [0x69],
      form: "rm",
      size: "v",
      imm: "z",
      writes: CF | OF,
      undef: SF | ZF | AF | PF,
      weight: 2,
    },
    {
      name: "imul",
      opcode: [0x6b],
      form: "rm",
      size: "v",
      imm: "b",
      writes: CF | OF,
      undef: SF | ZF | AF | PF,
      weight: 2,
    },
    {
      name: "imul",
      opcode: [0x0f, 0xaf],
      form: "rm",
      size: "v",
      writes: CF | OF,
      undef: SF | ZF | AF | PF,
      weight: 3,
    },
    { name: "xchg", opcode: [0x90], form: "o", size: "v", weight: 2 },
    { name: "cbw", opcode: [0x98], form: "none", size: "v" },
    { name: "cwd", opcode: [0x99], form: "none", size: "v" },
    { name: "lahf", opcode: [0x9f], form: "none", size: "d", reads: ALL & ~OF },
    { name: "sahf", opcode: [0x9e], form: "none", size: "d", writes: ALL & ~OF },
    { name: "clc", opcode: [0xf8], form: "none", size: "d", writes: CF },
    { name: "stc", opcode: [0xf9], form: "none", size: "d", writes: CF },
    { name: "cmc", opcode: [0xf5], form: "none", size: "d", reads: CF, writes: CF },
    { name: "cld", opcode: [0xfc], form: "none", size: "d" },
    { name: "std", opcode: [0xfd], form: "none", size: "d" },
    { name: "xlat", opcode: [0xd7], form: "none", size: "b", care: "xlat" },
    { name: "movnti", opcode: [0x0f, 0xc3], form: "rm", rm: "mem", size: "y" },
    { name: "nop", opcode: [0x0f, 0x1f], digit: 0, form: "rm", size: "v" },
    { name: "pause", opcode: [0x90], prefix: 0xf3, form: "none", size: "d" },
    { name: "prefetch", opcode: [0x0f, 0x18], digit: 1, form: "rm", rm: "mem", size: "d" },
    { name: "prefetchw", opcode: [0x0f, 0x0d], digit: 1, form: "rm", rm: "mem", size: "d" },
    { name: "hint", opcode: [0x0f, 0x19], form: "rm", size: "v" },
    { name: "hint", opcode: [0x0f, 0x1d], form: "rm", size: "v" },
    { name: "endbr64", opcode: [0x0f, 0x1e, 0xfa], prefix: 0xf3, form: "none", size: "d" },
    { name: "clflush", opcode: [0x0f, 0xae], digit: 7, form: "rm", rm: "mem", size: "b", weight: 2 },
    { name: "fence", opcode: [0x0f, 0xae, 0xe8], form: "none", size: "d" },
    { name: "fence", opcode: [0x0f, 0xae, 0xf0], form: "none", size: "d" },
    { name: "fence", opcode: [0x0f, 0xae, 0xf8], form: "none", size: "d" },
    { name: "movsreg", opcode: [0x8c], digit: 0, form: "rm", size: "v" },
    { name: "movsreg", opcode: [0x8c], digit: 1, form: "rm", size: "v", only: 64 },
    { name: "movsreg", opcode: [0x8c], digit: 2, form: "rm", size: "v" },
    { name: "movsreg", opcode: [0x8c], digit: 5, form: "rm", size: "v" },
  ];
}

function legacy(): Instruction[] {
  const wide = (name: string, opcode: number, rest: Partial<Instruction>): Instruction => ({
    name,
    opcode: [opcode],
    form: "none",
    size: "d",
    only: 32,
    weight: 4,
    ...rest,
  });
  return [
    { name: "inc", opcode: [0x40], form: "o", size: "v", only: 32, writes: ALL & ~CF, weight: 4 },
    { name: "dec", opcode: [0x48], form: "o", size: "v", only: 32, writes: ALL & ~CF, weight: 4 },
    wide("daa", 0x27, { reads: CF | AF, writes: ALL & ~OF, undef: OF }),
    wide("das", 0x2f, { reads: CF | AF, writes: ALL & ~OF, undef: OF }),
    wide("aaa", 0x37, { reads: AF, writes: CF | AF, undef: OF | SF | ZF | PF }),
    wide("aas", 0x3f, { reads: AF, writes: CF | AF, undef: OF | SF | ZF | PF }),
    wide("aam", 0xd4, { imm: "b", writes: SF | ZF | PF, undef: OF | AF | CF }),
    wide("aad", 0xd5, { imm: "b", writes: SF | ZF | PF, undef: OF | AF | CF }),
    wide("salc", 0xd6, { reads: CF }),
    wide("pusha", 0x60, { size: "q", care: "stack" }),
    wide("popa", 0x61, { size: "q", care: "stack" }),
    wide("into", 0xce, { reads: OF }),
    { name: "bound", opcode: [0x62], form: "rm", rm: "mem", size: "v", only: 32, weight: 4 },
    wide("pushes", 0x06, { size: "q", care: "stack", weight: 1 }),
    wide("pushss", 0x16, { size: "q", care: "stack", weight: 1 }),
    wide("pushds", 0x1e, { size: "q", care: "stack", weight: 1 }),
  ];
}

/**
 * What user mode may not execute, or nobody: #GP, #UD, #BP and their relatives. Without ICEBP: below a hypervisor its
 * #DB comes with an address that depends on the hypervisor (`test/machine/encodings.test.ts` has it).
 */
function traps(): Instruction[] {
  const plain = (opcode: readonly number[], only?: 32 | 64): Instruction => ({
    name: "trap",
    opcode,
    form: "none",
    size: "d",
    care: "trap",
    ...(only === undefined ? {} : { only }),
  });
  const invalid64 = [
    0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4,
    0xd5, 0xd6, 0xea,
  ];
  return [
    ...invalid64.map((op) => plain([op], 64)),
    ...[0xf4, 0xfa, 0xfb, 0xec, 0xed, 0xee, 0xef, 0x6c, 0x6e].map((op) => plain([op])),
    ...[0xe4, 0xe5, 0xe6, 0xe7].map((op): Instruction => ({ ...plain([op]), imm: "b" })),
    plain([0x0f, 0x0b]),
    plain([0x0f, 0xff, 0xc0]),
    plain([0x0f, 0xb9, 0xc0]),
    plain([0x0f, 0x06]),
    plain([0x0f, 0x08]),
    plain([0x0f, 0x09]),
    plain([0x0f, 0x30]),
    plain([0x0f, 0x32]),
    plain([0x0f, 0x20, 0xc0]),
    plain([0x0f, 0x22, 0xd8]),
    plain([0x0f, 0x21, 0xc0]),
    plain([0x0f, 0x04]),
    plain([0x0f, 0x0a]),
    plain([0x0f, 0x24]),
    plain([0x8d, 0xc0]),
    plain([0xff, 0xf8]),
    plain([0xfe, 0xd0]),
    plain([0x8c, 0xf8]),
    plain([0x8e, 0xc8]),
    plain([0x0f, 0xc7, 0xc8]),
    plain([0x0f, 0xba, 0xc0, 1]),
    plain([0xf0, 0x90]),
    plain([0xf0, 0x01, 0xc0]),
    plain([0xf0, 0x8b, 0x00]),
    plain([0xc6, 0xc8, 0]),
    { name: "int", opcode: [0xcd], form: "none", size: "d", imm: "b", care: "int", weight: 3 },
    { name: "int3", opcode: [0xcc], form: "none", size: "d", care: "trap" },
  ];
}

export const INTEGER_INSTRUCTIONS: readonly Instruction[] = [
  ...alu(),
  ...shifts(),
  ...conditions(),
  ...strings(),
  ...unary(),
  ...bits(),
  ...stackAndFlow(),
  ...miscellany(),
  ...legacy(),
  ...traps(),
];
