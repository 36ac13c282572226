import { at, Assembler, eax, ecx, mem, rax, rbx, rcx, rdi, rsi } from "../../asm/index.ts";
import { windowEntry, windowPage } from "./bench.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { Gpa, Port, PTE } from "./layout.ts";

/** `mov eax, value; ret`. */
function constant(value: number): Uint8Array {
  const a = new Assembler();
  a.mov(eax, value);
  a.op("ret");
  return a.finish();
}
const { P, RW } = PTE;

export const selfModifyingCases: readonly ConformanceCase[] = [
  program("executes what the instruction just before it wrote", (g) => {
    const { a } = g;
    a.mov(ecx, 3);
    a.label("again");
    a.lea(rbx, mem({ label: "patched" }));
    a.add(at(rbx, 1, 32), 1);
    a.label("patched");
    a.mov(eax, 100);
    g.report(eax);
    a.dec(ecx);
    a.j("nz", "again");
    g.done();
    return [101, 102, 103];
  }),
  program("executes a changed function of the same and of another page", (g) => {
    const { a } = g;
    const far = 0x30000;
    g.memory.set(far, constant(1));
    const call = (): void => {
      a.mov(rbx, far);
      a.call(rbx);
      g.report(eax);
    };
    call();
    call();
    a.mov(rbx, far);
    a.mov(at(rbx, 1, 32), 2);
    call();
    a.mov(at(rbx, 1, 8), 3);
    call();
    a.mov(at(rbx, 3, 16), 0x100);
    call();
    g.done();
    return [1, 1, 2, 3, 0x1000003];
  }),
  program("notices a write that crosses into a page of code, by its second half", (g) => {
    const { a } = g;
    g.memory.set(0x31000, constant(5));
    const call = (): void => {
      a.mov(rbx, 0x31000);
      a.call(rbx);
      g.report(eax);
    };
    call();
    a.mov(rax, 0x0000_0009_b8_000000n);
    a.mov(rbx, 0x31000 - 3);
    a.mov(at(rbx), rax);
    call();
    g.done();
    return [5, 9];
  }),
  program("notices writes through another mapping of the same page", (g) => {
    const { a } = g;
    g.memory.set(Gpa.PAGES, constant(1));
    g.window.set(0, windowEntry(0, P | RW));
    g.window.set(1, windowEntry(0, P | RW));
    const call = (): void => {
      a.mov(rbx, windowPage(0));
      a.call(rbx);
      g.report(eax);
    };
    call();
    a.mov(rbx, windowPage(1));
    a.mov(at(rbx, 1, 32), 7);
    call();
    a.mov(rbx, Gpa.PAGES);
    a.mov(at(rbx, 1, 32), 8);
    call();
    g.done();
    return [1, 7, 8];
  }),
  program("follows a page of code that is mapped elsewhere", (g) => {
    const { a } = g;
    g.memory.set(Gpa.PAGES, constant(1));
    g.memory.set(Gpa.PAGES + 0x1000, constant(2));
    g.window.set(0, windowEntry(0, P | RW));
    const call = (): void => {
      a.mov(rbx, windowPage(0));
      a.call(rbx);
      g.report(eax);
    };
    call();
    a.mov(rax, Gpa.WINDOW_PT);
    a.mov(at(rax, 0, 64), Number(windowEntry(1, P | RW)));
    a.table("invlpg", at(rbx));
    call();
    g.done();
    return [1, 2];
  }),
  program("executes an instruction that spans two pages, and its change by the second page", (g) => {
    const { a } = g;
    const at2 = 0x33000 - 2;
    g.memory.set(at2, constant(0x11223344));
    const call = (): void => {
      a.mov(rbx, at2);
      a.call(rbx);
      g.report(eax);
    };
    call();
    call();
    a.mov(rbx, 0x33000);
    a.mov(at(rbx, 0, 8), 0x99);
    call();
    g.done();
    return [0x11223344, 0x11223344, 0x11229944];
  }),
  program("notices code copied over by REP MOVS", (g) => {
    const { a } = g;
    g.memory.set(0x34000, constant(1));
    g.memory.set(0x35000, constant(2));
    const call = (): void => {
      a.mov(rbx, 0x34000);
      a.call(rbx);
      g.report(eax);
    };
    call();
    a.mov(rsi, 0x35000);
    a.mov(rdi, 0x34000);
    a.mov(rcx, 6);
    a.rep();
    a.string("movs", 8);
    call();
    g.done();
    return [1, 2];
  }),
  program(
    "notices code that a device wrote",
    (g) => {
      const { a } = g;
      g.memory.set(0x36000, constant(1));
      const call = (): void => {
        a.mov(rbx, 0x36000);
        a.call(rbx);
        g.report(eax);
      };
      call();
      a.mov(eax, 1);
      a.out(Port.ACTION, eax);
      call();
      g.done();
      return [1, 2];
    },
    {
      prepare: (bench) => {
        bench.actions.set(1, () => {
          bench.ram.bytes.set(constant(2), 0x36000);
          bench.vm.memoryWritten(0x36000, 6);
        });
      },
    },
  ),
  program("does not mistake data beside code for code", (g) => {
    const { a } = g;
    a.mov(ecx, 1000);
    a.lea(rbx, mem({ label: "counter" }));
    a.label("again");
    a.inc(at(rbx, 0, 32));
    a.dec(ecx);
    a.j("nz", "again");
    a.mov(eax, at(rbx));
    g.report(eax);
    g.done();
    a.label("counter");
    a.u32(0);
    return [1000];
  }),
  program("jumps into the middle of an instruction already executed", (g) => {
    const { a } = g;
    // b8 40 90 90 c3 … : mov eax, imm32 whose bytes are a function.
    a.mov(ecx, 0);
    a.call("whole");
    g.report(eax);
    a.lea(rbx, mem({ label: "whole" }));
    a.inc(rbx);
    a.mov(eax, 0);
    a.call(rbx);
    g.report(eax);
    g.done();
    a.label("whole");
    a.bytes(0xb8, 0xff, 0xc0, 0x90, 0xc3);
    a.op("ret");
    return [0xc390c0ff, 1];
  }),
];
