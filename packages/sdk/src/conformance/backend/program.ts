import {
  addressOf,
  Assembler,
  at,
  cr,
  eax,
  type Immediate,
  mem,
  r14,
  r15,
  rax,
  type Register,
  rsp,
} from "../../asm/index.ts";
import { Gpa, Port, Selector, USER_STACK } from "./layout.ts";

export interface Gate {
  readonly label: string;
  readonly type: "interrupt" | "trap";
  readonly dpl: 0 | 3;
  /** Interrupt stack, 0: none. */
  readonly ist: number;
  readonly present: boolean;
}

const ERROR_CODES = new Set([8, 10, 11, 12, 13, 14, 17]);
const VECTORS = 64;

/**
 * A bare-metal program: starts in 64-bit mode at CPL 0 on vCPU 0. Exceptions nobody expects end it; those inside
 * `faults` are reported to the test and execution goes on behind it.
 * R14 and R15 belong to `faults`.
 */
export class GuestProgram {
  readonly a: Assembler = new Assembler({ origin: Gpa.CODE });
  readonly gates: Map<number, Gate> = new Map();
  /** Window pages: index → page table entry. */
  readonly window: Map<number, bigint> = new Map();
  /** More bytes of memory: gpa → bytes. */
  readonly memory: Map<number, Uint8Array> = new Map();

  constructor() {
    const { a } = this;
    a.jmp("main");
    for (let vector = 0; vector < VECTORS; vector++) {
      a.label(`stub.${vector.toString()}`);
      if (!ERROR_CODES.has(vector)) a.push(0);
      a.push(vector);
      a.jmp("trap");
      const dpl = vector === 3 || vector === 4 || vector === 33 ? 3 : 0;
      this.gates.set(vector, {
        label: `stub.${vector.toString()}`,
        type: "interrupt",
        dpl,
        ist: 0,
        present: true,
      });
    }
    // Stack: rax, vector, error, rip, cs, rflags, rsp, ss.
    a.label("trap");
    a.push(rax);
    for (const slot of [8, 16, 24, 32]) {
      a.mov(eax, at(rsp, slot));
      a.out(Port.TRAP, eax);
    }
    a.movFromSystem(rax, cr(2));
    a.out(Port.TRAP, eax);
    a.test(r15, -1);
    a.j("z", "finish");
    a.mov(at(rsp, 24), r15);
    a.mov(at(rsp, 32, 64), Selector.KERNEL_CODE);
    a.mov(at(rsp, 40, 64), 2);
    a.mov(at(rsp, 48), r14);
    a.mov(at(rsp, 56, 64), Selector.KERNEL_DATA);
    a.pop(rax);
    a.add(rsp, 16);
    a.op("iretq");
    a.label("finish");
    a.out(Port.DONE, eax);
    a.jmp("finish");
    a.align(16);
    a.label("main");
  }

  /** Reports the low 32 bits of a register, or a constant. Keeps every register and flag. */
  report(value: Register | number): void {
    const { a } = this;
    a.push(rax);
    if (typeof value === "number") a.mov(eax, value >>> 0);
    else if (value.number === rsp.number) a.lea(rax, at(rsp, 8));
    else if (value.number !== 0) a.mov(rax, { ...rax, number: value.number, name: value.name });
    a.out(Port.REPORT, eax);
    a.pop(rax);
  }

  /** Reports both halves of a register, low first. */
  report64(value: Register): void {
    const { a } = this;
    this.report(value);
    a.push(rax);
    a.mov(rax, { ...rax, number: value.number });
    a.shift("shr", rax, 32);
    a.out(Port.REPORT, eax);
    a.pop(rax);
  }

  /** Runs `body`, which must raise an exception; returns the label of its first instruction. */
  faults(body: (a: Assembler) => void): string {
    const { a } = this;
    const after = a.unique("after");
    const start = a.unique("faulting");
    a.lea(r15, mem({ label: after }));
    a.mov(r14, rsp);
    a.label(start);
    body(a);
    this.report(0xbad);
    a.label(after);
    a.mov(r15, 0);
    return start;
  }

  /** Leaves for ring 3 at `label`. */
  enterUser(label: string, options: { readonly code?: number; readonly flags?: number } = {}): void {
    const { a } = this;
    a.push(Selector.USER_DATA);
    a.push(USER_STACK);
    a.push(options.flags ?? 2);
    a.push(options.code ?? Selector.USER_CODE);
    a.push(addressOf(label));
    a.op("iretq");
  }

  /** Replaces the gate of a vector. */
  gate(vector: number, gate: Partial<Gate>): void {
    const old = this.gates.get(vector) ?? {
      label: "finish",
      type: "interrupt",
      dpl: 0,
      ist: 0,
      present: true,
    };
    this.gates.set(vector, { ...old, ...gate });
  }

  /** Ends the program. */
  done(): void {
    this.a.out(Port.DONE, eax);
    const spin = this.a.unique("spin");
    this.a.label(spin);
    this.a.jmp(spin);
  }

  writeMsr(index: number, low: number, high = 0): void {
    const { a } = this;
    a.mov({ ...eax, number: 1 }, index);
    a.mov(eax, low >>> 0);
    a.mov({ ...eax, number: 2 }, high >>> 0);
    a.op("wrmsr");
  }

  /** Stores 32 bits at a linear address below 4 GiB, by way of RAX. */
  store32(address: number, value: Immediate): void {
    const { a } = this;
    a.mov(eax, address >>> 0);
    a.mov(at(rax, 0, 32), value);
  }
}
