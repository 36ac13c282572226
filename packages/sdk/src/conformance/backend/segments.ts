import {
  addressOf,
  at,
  bl,
  ds,
  eax,
  ebx,
  ecx,
  edi,
  edx,
  es,
  esp,
  type Memory,
  mem,
  rax,
  ss,
} from "../../asm/index.ts";
import { type ConformanceCase, type Expected, program } from "./cases.ts";
import { Gpa, Selector } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

/** Selectors behind those of every program. */
const Extra = {
  /** Limit 0xff, readable and writable. */
  SHORT_DATA: 0xc0,
  /** Expand-down: offsets above 0xfff. */
  DOWN_DATA: 0xc8,
  EXECUTE_ONLY: 0xd0,
  /** Code that ends at 0xfff bytes into `Gpa.DATA`. */
  SHORT_CODE: 0xd8,
  CONFORMING: 0xe0,
} as const;

function addDescriptors(g: GuestProgram): void {
  const table = new DataView(new ArrayBuffer(5 * 8));
  table.setBigUint64(0, 0x00409300000000ffn | (BigInt(Gpa.DATA) << 16n), true);
  table.setBigUint64(8, 0x0040970000000fffn, true);
  table.setBigUint64(16, 0x00cf99000000ffffn, true);
  table.setBigUint64(24, 0x00409b0000000fffn | (BigInt(Gpa.DATA) << 16n), true);
  table.setBigUint64(32, 0x00cf9f000000ffffn, true);
  g.memory.set(Gpa.GDT + Extra.SHORT_DATA, new Uint8Array(table.buffer));
}

/** Runs `body` in 32-bit code at CPL 0, which must raise an exception. */
function faults32(g: GuestProgram, body: () => void): void {
  const { a } = g;
  const compat = a.unique("compat");
  const behind = a.unique("behind");
  g.faults(() => {
    a.push(Selector.KERNEL_CODE32);
    a.push(addressOf(compat));
    a.op("lretq");
  });
  a.jmp(behind);
  a.bits(32);
  a.label(compat);
  body();
  a.op("ud2");
  a.bits(64);
  a.label(behind);
}

const GP: Expected = { vector: 13, error: 0 };
const SS: Expected = { vector: 12, error: 0 };
/** The access was allowed. */
const PASSES: Expected = { vector: 6 };

/** Accesses by way of DS or SS loaded with `selector`, and what each raises. */
function accesses(
  g: GuestProgram,
  register: typeof ds,
  selector: number,
  list: readonly (readonly [body: (at: (offset: number) => Memory) => void, raises: Expected])[],
): readonly Expected[] {
  // ESP becomes 0: handlers run on a stack of their own.
  for (const vector of [6, 12, 13]) g.gate(vector, { ist: 1 });
  const operand = (offset: number): Memory =>
    register.number === ss.number ? at(esp, offset) : mem({ displacement: offset });
  return list.map(([body, raises]) => {
    faults32(g, () => {
      g.a.mov(ecx, selector);
      g.a.movSegment(register, ecx);
      g.a.mov(esp, 0);
      body(operand);
    });
    g.a.mov(ecx, Selector.KERNEL_DATA);
    g.a.movSegment(register, ecx);
    return raises;
  });
}

export const segmentCases: readonly ConformanceCase[] = [
  program(
    "holds accesses to the limit of an expand-up segment, to the last byte",
    (g) => {
      const { a } = g;
      addDescriptors(g);
      const expected = [
        ...accesses(g, ds, Extra.SHORT_DATA, [
          [(m) => a.mov(eax, m(0xfc)), PASSES],
          [(m) => a.mov(eax, m(0xfd)), GP],
          [(m) => a.mov({ ...m(0xff), bits: 8 }, 1), PASSES],
          [(m) => a.add(m(0x100), eax), GP],
          [(m) => a.push({ ...m(0x200), bits: 32 }), GP],
        ]),
        ...accesses(g, ss, Extra.SHORT_DATA, [
          [(m) => a.mov(eax, m(0xfc)), PASSES],
          [(m) => a.mov(eax, m(0x100)), SS],
          [() => a.push(eax), SS],
        ]),
      ];
      g.done();
      return expected;
    },
    { needs: "segmentChecks" },
  ),
  program(
    "allows an expand-down segment what lies above its limit",
    (g) => {
      const { a } = g;
      addDescriptors(g);
      const expected = accesses(g, ds, Extra.DOWN_DATA, [
        [(m) => a.mov(eax, m(0x1000)), PASSES],
        [(m) => a.mov(eax, m(0xfff)), GP],
        [(m) => a.mov(m(0), eax), GP],
        [(m) => a.mov(m(Gpa.DATA), eax), PASSES],
      ]);
      g.done();
      return expected;
    },
    { needs: "segmentChecks" },
  ),
  program(
    "refuses writes to read-only and code segments, and reads of execute-only code",
    (g) => {
      const { a } = g;
      addDescriptors(g);
      const readOnly = accesses(g, ds, Selector.READ_ONLY_DATA, [
        [(m) => a.mov(eax, m(Gpa.DATA)), PASSES],
        [(m) => a.mov(m(Gpa.DATA), eax), GP],
        [(m) => a.inc({ ...m(Gpa.DATA), bits: 32 }), GP],
        [(m) => a.cmp(m(Gpa.DATA), eax), PASSES],
        [(m) => a.exchange("xchg", m(Gpa.DATA), eax), GP],
      ]);
      const code = accesses(g, ds, Selector.KERNEL_CODE32, [
        [(m) => a.mov(eax, m(Gpa.DATA)), PASSES],
        [(m) => a.mov(m(Gpa.DATA), eax), GP],
      ]);
      // By way of CS itself, which may be execute-only: mov eax, cs:[DATA].
      faults32(g, () => {
        a.bytes(0x2e, 0xa1);
        a.u32(Gpa.DATA);
      });
      faults32(g, () => {
        a.bytes(0x2e, 0xa3);
        a.u32(Gpa.DATA);
      });
      faults32(g, () => {
        a.jmpFar(Extra.EXECUTE_ONLY, addressOf("execute-only"), 32);
      });
      g.done();
      a.bits(32);
      a.label("execute-only");
      a.bytes(0x2e, 0xa1);
      a.u32(Gpa.DATA);
      a.bits(64);
      return () => [
        ...readOnly,
        ...code,
        PASSES,
        GP,
        { vector: 13, error: 0, rip: a.addressOf("execute-only"), cs: Extra.EXECUTE_ONLY },
      ];
    },
    { needs: "segmentChecks" },
  ),
  program(
    "checks string instructions element by element, each at its segment",
    (g) => {
      const { a } = g;
      addDescriptors(g);
      faults32(g, () => {
        a.mov(ecx, Extra.SHORT_DATA);
        a.movSegment(es, ecx);
        a.mov(edi, 0xf0);
        a.mov(ecx, 100);
        a.op("cld");
        a.rep();
        a.string("stos", 32);
      });
      g.report(ecx);
      g.report(edi);
      faults32(g, () => {
        a.mov(ecx, 0);
        a.movSegment(es, ecx);
        a.string("stos", 8);
      });
      faults32(g, () => {
        a.string("lods", 8);
      });
      g.done();
      return [GP, 96, 0x100, GP, PASSES];
    },
    { needs: "segmentChecks" },
  ),
  program(
    "raises #GP(0) for branches, and fetches that run, beyond the code segment",
    (g) => {
      const { a } = g;
      addDescriptors(g);
      // jmp +0x1000 at 0; nop and a two-byte instruction that crosses the limit at 0xffe.
      g.memory.set(Gpa.DATA, Uint8Array.of(0xe9, 0, 0x10, 0, 0));
      g.memory.set(Gpa.DATA + 0xffd, Uint8Array.of(0x90, 0x90, 0x31, 0xc0));
      for (const offset of [0, 0xffd, 0x1000])
        faults32(g, () => {
          a.jmpFar(Extra.SHORT_CODE, offset, 32);
        });
      g.done();
      return [
        { vector: 13, error: 0, rip: 0, cs: Extra.SHORT_CODE },
        { vector: 13, error: 0, rip: 0xfff, cs: Extra.SHORT_CODE },
        { vector: 13, error: 0, cs: Selector.KERNEL_CODE32 },
      ];
    },
    { needs: "segmentChecks" },
  ),
  program("answers LAR, LSL, VERR and VERW by type and privilege", (g) => {
    const { a } = g;
    addDescriptors(g);
    const ask = (opcode: readonly number[], selector: number): void => {
      a.mov(ecx, selector);
      a.mov(edx, 0x55);
      a.bytes(...opcode);
      a.set("z", bl);
      a.extend("movzx", ebx, bl);
      g.report(ebx);
    };
    const LAR = [0x0f, 0x02, 0xd1];
    const LSL = [0x0f, 0x03, 0xd1];
    const VERR = [0x0f, 0x00, 0xe1];
    const VERW = [0x0f, 0x00, 0xe9];
    const selectors = [
      0,
      Selector.KERNEL_DATA,
      Selector.KERNEL_DATA | 3,
      Selector.READ_ONLY_DATA,
      Extra.EXECUTE_ONLY,
      Extra.CONFORMING | 3,
      Selector.TSS,
      0x1000,
    ];
    for (const selector of selectors) for (const opcode of [LAR, LSL, VERR, VERW]) ask(opcode, selector);
    ask(LSL, Extra.SHORT_DATA);
    g.report(edx);
    ask(LSL, Selector.KERNEL_DATA);
    g.report(edx);
    a.mov(rax, 0);
    g.done();
    return [
      ...[0, 0, 0, 0],
      ...[1, 1, 1, 1],
      ...[0, 0, 0, 0],
      ...[1, 1, 1, 0],
      ...[1, 1, 0, 0],
      ...[1, 1, 1, 0],
      ...[1, 1, 0, 0],
      ...[0, 0, 0, 0],
      ...[1, 0xff],
      ...[1, 0xffffffff],
    ];
  }),
];
