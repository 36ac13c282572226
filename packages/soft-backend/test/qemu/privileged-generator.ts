import {
  addressOf,
  at,
  cr,
  dr,
  ds,
  eax,
  ecx,
  edx,
  es,
  fs,
  gs,
  rax,
  rbx,
  rcx,
  rdi,
  type Register,
  rsi,
  ss,
} from "@northbridge/sdk/asm";
import { Gpa, GuestProgram, PTE, Selector, WINDOW } from "@northbridge/sdk/conformance";
import type { Random } from "../fuzz/random.ts";

/** Places of the program's GDT that hold descriptors of the generator's. */
const FIRST_RANDOM = 0x90;
const LAST_RANDOM = 0xf8;
/** Pages 0–3 of the window show data, 4–7 code: nothing stored is ever executed. */
const WINDOW_PAGES = 8;
const CODE_PAGE = 4;
/** `int 33`, which comes back to the program from any mode and privilege. */
const RETURN = [0xcd, 0x21];
/** Status flags and DF: QEMU's SYSCALL loses them in any case. */
const STATUS = 0xcd5;
/** Bits that are flipped: MP TS NE WP; TSD DE PCE OSXMMEXCPT. (With EM and OSFXSR, QEMU puts #NM before #UD; it has no #AC.) */
const CR0_BITS = [1, 3, 5, 16];
const CR4_BITS = [2, 3, 8, 10];

/** A program of `count` random system instructions, each of which may fault and is then left behind. */
export function privilegedProgram(random: Random, count: number): GuestProgram {
  const g = new GuestProgram();
  const { a } = g;
  const pick = <T>(from: readonly T[]): T => random.pick(from);
  const chance = (percent: number): boolean => random.chance(percent);

  const descriptors = new DataView(new ArrayBuffer(LAST_RANDOM + 8 - FIRST_RANDOM));
  for (let at = 0; at < descriptors.byteLength; at += 8) {
    const isPresent = chance(85) ? 0x80 : 0;
    const access = isPresent | (random.below(4) << 5) | 0x10 | random.below(16);
    const size = pick([0xaf, 0xcf, 0x8f, 0xef]);
    const base = access & 8 ? 0 : random.below(4) << 12; // code stays in sight
    descriptors.setUint32(at, 0xffff | (base << 16), true);
    descriptors.setUint32(at + 4, (access << 8) | (size << 16) | (base >>> 16), true);
  }
  g.memory.set(Gpa.GDT + FIRST_RANDOM, new Uint8Array(descriptors.buffer));
  for (let page = 0; page < WINDOW_PAGES; page++) {
    g.memory.set(
      Gpa.PAGES + 0x1000 * page,
      Uint8Array.from({ length: 0x1000 }, (_, i) => RETURN[i & 1] ?? 0),
    );
  }

  /** Mostly selectors that exist. */
  const selector = (): number =>
    chance(5) ? random.below(0x10000) : (random.below(0x20) << 3) | random.below(4) | (chance(5) ? 4 : 0);
  const codeSelector = (): number =>
    chance(60)
      ? pick([Selector.KERNEL_CODE, Selector.USER_CODE, Selector.USER_CODE32, Selector.KERNEL_CODE32])
      : selector();
  /** Not null: QEMU takes a null one for compatibility mode, too. */
  const stackSelector = (): number =>
    chance(60) ? pick([Selector.KERNEL_DATA, Selector.USER_DATA, Selector.USER_DATA2]) : selector() | 8;
  const flags = (): number => 2 | (random.below(0x1000) & 0xcd5) | pick([0, 0, 0x3000, 0x1000, 0x40000]);
  const windowAddress = (first = 0): number =>
    WINDOW + (first + random.below(CODE_PAGE)) * 0x1000 + pick([0, 2, 0xff8, 0xffe]);
  const flip = (n: 0 | 4, bits: readonly number[]): void => {
    a.movFromSystem(rax, cr(n));
    a.xor(rax, 2 ** pick(bits));
    a.movToSystem(cr(n), rax);
  };
  const target = "return";
  const remap = (): void => {
    const index = random.below(WINDOW_PAGES);
    const entry = Gpa.WINDOW_PT + 8 * index;
    let low = Gpa.PAGES + 0x1000 * ((index & CODE_PAGE) + random.below(CODE_PAGE));
    for (const [flag, percent] of [
      [PTE.P, 80],
      [PTE.RW, 60],
      [PTE.US, 60],
      [PTE.A, 50],
      [PTE.D, 30],
      [PTE.G, 30],
    ] as const)
      if (chance(percent)) low |= flag;
    a.mov(rax, entry);
    a.mov(rbx, (BigInt(chance(20) ? 1 : 0) << 63n) | BigInt(low));
    a.mov(at(rax), rbx);
    for (let page = 0; page < WINDOW_PAGES; page++) {
      a.mov(rax, WINDOW + 0x1000 * page);
      a.table("invlpg", at(rax));
    }
  };
  const msr = (index: number, value: bigint): void => {
    a.mov(ecx, index);
    a.mov(eax, Number(value & 0xffffffffn));
    a.mov(edx, Number(value >> 32n));
    a.op("wrmsr");
  };
  const frame = (values: readonly (number | { readonly label: string })[]): void => {
    for (const value of values) {
      a.mov(rax, typeof value === "number" ? value : addressOf(value.label));
      a.push(rax);
    }
  };

  /** What runs at CPL 3 as well as at CPL 0. */
  const anywhere: readonly (() => void)[] = [
    () => {
      a.mov(ecx, selector());
      a.movSegment(pick([ds, es, fs, gs, ss]), ecx);
    },
    () => {
      a.mov(ecx, selector());
      a.bytes(0x0f, 0x00, pick([0xe1, 0xe9])); // VERR, VERW CX
    },
    () => {
      a.mov(ecx, selector());
      a.bytes(0x0f, 0x03, 0xd9); // LSL EBX, ECX
    },
    () => {
      frame([flags()]);
      a.op("popf");
      a.op("nop");
    },
    () => {
      frame([stackSelector(), 0x88000, codeSelector(), { label: target }]);
      a.bytes(0x48, 0xcb); // RETFQ
    },
    () => {
      frame([stackSelector(), 0x88000, flags(), codeSelector(), { label: target }]);
      a.op("iretq");
    },
    () => {
      a.mov(rbx, windowAddress());
      const to = pick<Register>([rax, rcx]);
      if (chance(50)) a.mov(to, at(rbx));
      else a.mov(at(rbx), to);
    },
    () => {
      a.mov(rbx, windowAddress(CODE_PAGE));
      a.jmp(rbx);
    },
    () => {
      const name = pick(["movs", "stos", "lods", "scas", "cmps"] as const);
      // Which operand of CMPS faults first is nobody's promise.
      a.mov(rsi, name === "cmps" || chance(50) ? Gpa.DATA : windowAddress());
      a.mov(rdi, windowAddress());
      a.mov(rcx, random.below(6));
      if (chance(50)) a.rep();
      a.string(name, pick([8, 32, 64] as const));
    },
    () => {
      a.int(pick([3, 33, 4]));
    },
    () => {
      a.op(pick(["clts", "swapgs", "ud2", "fninit"] as const));
    },
    () => {
      a.bytes(0x0f, 0x28, 0xc1); // MOVAPS
    },
    () => {
      a.bytes(...pick([[0x9b], [0x0f, 0x08], [0x0f, 0x01, 0xe3], [0x0f, 0x00, 0xc3], [0x0f, 0x00, 0xcb]]));
    },
    () => {
      a.movFromSystem(rbx, pick([cr(0), cr(2), cr(3), cr(4), cr(8), dr(0), dr(7)]));
    },
    () => {
      a.mov(rbx, random.below(0x10000));
      a.movToSystem(pick([dr(0), dr(1), dr(2), dr(3), cr(2)]), rbx);
    },
    () => {
      a.op("syscall");
    },
    () => {
      a.mov(rcx, addressOf(target));
      a.mov({ ...rax, number: 11 }, flags());
      a.op("sysretq");
    },
    () => {
      a.mov(ecx, selector());
      if (chance(50)) a.lldt(ecx);
      else a.ltr(ecx);
    },
    () => {
      a.mov(rbx, Gpa.DATA);
      a.table(pick(["sgdt", "sidt"] as const), at(rbx));
      a.mov(rcx, at(rbx, 2));
    },
    () => {
      a.push(rbx);
      a.pop(rax);
    },
  ];
  /** Only worth while at CPL 0. */
  const kernel: readonly (() => void)[] = [
    remap,
    remap,
    () => {
      flip(0, CR0_BITS);
    },
    () => {
      flip(4, CR4_BITS);
    },
    () => {
      msr(0xc0000081, (BigInt(random.below(0x20) << 3) << 48n) | (BigInt(random.below(0x20) << 3) << 32n));
    },
    () => {
      msr(0xc0000084, BigInt(random.below(0x40000) | STATUS));
    },
    () => {
      msr(pick([0xc0000100, 0xc0000101, 0xc0000102]), BigInt(random.below(0x10000)));
    },
    () => {
      a.mov(ecx, pick([0xc0000080, 0xc0000081, 0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102]));
      a.op("rdmsr");
    },
  ];

  a.mov(ecx, 0xc0000082);
  a.mov(rax, addressOf(target));
  a.mov(edx, 0);
  a.op("wrmsr");
  msr(0xc0000084, BigInt(STATUS));
  for (let i = 0; i < count; i++) {
    const isUser = chance(30);
    const label = a.unique("user");
    g.faults(() => {
      if (isUser) {
        g.enterUser(label, { flags: flags() });
        a.label(label);
      }
      pick(isUser || chance(65) ? anywhere : kernel)();
      if (isUser) a.int(33);
    });
  }
  // The end: a triple fault.
  a.mov(rax, Gpa.DATA);
  a.mov(at(rax, 0, 64), 0);
  a.mov(at(rax, 8, 64), 0);
  a.table("lidt", at(rax));
  a.op("ud2");
  a.label(target);
  a.bytes(...RETURN, ...RETURN);
  return g;
}
