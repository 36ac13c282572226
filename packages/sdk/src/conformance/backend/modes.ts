import {
  addressOf,
  Assembler,
  at,
  ax,
  bx,
  cr,
  ds,
  eax,
  ebx,
  ecx,
  edx,
  es,
  mem,
  rax,
  rsp,
  ss,
} from "../../asm/index.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { Gpa, kernelStack, LAPIC, Port, Selector, USER_STACK } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

/** Far return to `label` in code segment `selector`, from 64-bit mode. */
function farTo(g: GuestProgram, selector: number, label: string): void {
  g.a.push(selector);
  g.a.push(addressOf(label));
  g.a.op("lretq");
}

/** REPORT of EAX in code of any size. */
const reportEax = (g: GuestProgram): void => {
  g.a.out(Port.REPORT, eax);
};

/** Real mode to 64-bit mode by the book (SDM 3A §9.8.5), then `flag` is stored. Assembled at the trampoline page. */
function trampoline(target: number): Uint8Array {
  const a = new Assembler({ origin: Gpa.TRAMPOLINE, bits: 16 });
  a.op("cli");
  a.mov(ax, 0);
  a.movSegment(ds, ax);
  // The real-mode CS base is the page: addresses in it are relative to CS, so use DS = 0 and absolute ones.
  a.table("lgdt", mem({ label: "gdtr" }));
  a.movFromSystem(eax, cr(0));
  a.or(eax, 1);
  a.movToSystem(cr(0), eax);
  a.jmpFar(Selector.KERNEL_CODE32, addressOf("protected"), 32);
  a.align(4);
  a.label("gdtr");
  a.u16(0xff);
  a.u32(Gpa.GDT);
  a.bits(32);
  a.label("protected");
  a.mov(eax, Selector.KERNEL_DATA);
  a.movSegment(ds, eax);
  a.movSegment(es, eax);
  a.movSegment(ss, eax);
  a.movFromSystem(eax, cr(4));
  a.or(eax, 0x20);
  a.movToSystem(cr(4), eax);
  a.mov(eax, Gpa.PML4);
  a.movToSystem(cr(3), eax);
  a.mov(ecx, 0xc0000080);
  a.op("rdmsr");
  a.or(eax, 0x900);
  a.op("wrmsr");
  a.movFromSystem(eax, cr(0));
  a.or(eax, 0x80000000);
  a.movToSystem(cr(0), eax);
  a.jmpFar(Selector.KERNEL_CODE, addressOf("long"), 32);
  a.bits(64);
  a.label("long");
  a.mov(rsp, kernelStack(1));
  a.mov(rax, target);
  a.jmp(rax);
  return a.finish();
}

export const modeCases: readonly ConformanceCase[] = [
  program("runs 32-bit code in compatibility mode: INC by 40h, 32-bit stack, wrapping addresses", (g) => {
    const { a } = g;
    farTo(g, Selector.KERNEL_CODE32, "compat");
    a.bits(32);
    a.label("compat");
    a.mov(eax, 5);
    a.bytes(0x40);
    reportEax(g);
    a.push(0x12345678);
    a.pop(ebx);
    a.mov(eax, ebx);
    reportEax(g);
    a.mov(ecx, 0xffffffff);
    a.mov(ebx, Gpa.DATA);
    a.mov(at(ebx, 0, 32), 0x77);
    a.inc(ebx);
    a.mov(eax, mem({ base: ebx, index: ecx }));
    reportEax(g);
    a.jmpFar(Selector.KERNEL_CODE, addressOf("long"), 32);
    a.bits(64);
    a.label("long");
    g.report(1);
    g.done();
    return [6, 0x12345678, 0x77, 1];
  }),
  program("zero-extends 32-bit results and keeps upper halves of 16- and 8-bit ones", (g) => {
    const { a } = g;
    a.mov(rax, 0x1122334455667788n);
    a.mov(ax, 1);
    g.report64(rax);
    a.add(eax, 1);
    g.report64(rax);
    g.done();
    return [0x55660001, 0x11223344, 0x55660002, 0];
  }),
  program("runs ring 3 in compatibility mode and returns through a gate", (g) => {
    const { a } = g;
    g.faults(() => {
      g.enterUser("user32", { code: Selector.USER_CODE32, flags: 0x3002 });
    });
    g.done();
    a.bits(32);
    a.label("user32");
    a.bytes(0x48);
    a.mov(eax, { ...eax, number: 4 });
    reportEax(g);
    a.push(0xabcd);
    a.mov(eax, at({ ...ebx, number: 4 }));
    reportEax(g);
    a.int(33);
    a.bits(64);
    return [USER_STACK, 0xabcd, { vector: 33, cs: Selector.USER_CODE32 }];
  }),
  program(
    "checks segment limits and null selectors in compatibility mode only",
    (g) => {
      const { a } = g;
      a.mov(eax, 0);
      a.movSegment(ds, eax);
      a.mov(eax, at(rsp));
      g.report(1);
      g.faults(() => {
        farTo(g, Selector.KERNEL_CODE32, "compat");
      });
      g.done();
      a.bits(32);
      a.label("compat");
      a.mov(eax, mem({ displacement: Gpa.DATA }));
      a.bits(64);
      return () => [1, { vector: 13, error: 0, rip: a.addressOf("compat"), cs: Selector.KERNEL_CODE32 }];
    },
    { needs: "segmentChecks" },
  ),
  program("runs 16-bit protected-mode code with 16-bit addresses", (g) => {
    const { a } = g;
    const code = new Assembler({ origin: 0x9000, bits: 16 });
    code.mov(ax, 0x1234);
    code.add(ax, 0xf000);
    code.mov(bx, ax);
    code.mov(eax, 0);
    code.mov(ax, bx);
    code.out(Port.REPORT, eax);
    code.jmpFar(Selector.KERNEL_CODE, Gpa.TRAMPOLINE + 0x800, 32);
    const back = new Assembler({ origin: Gpa.TRAMPOLINE + 0x800 });
    back.jmp(rax);
    g.memory.set(0x9000, code.finish());
    g.memory.set(Gpa.TRAMPOLINE + 0x800, Uint8Array.of(0x41, 0xff, 0xe4));
    a.mov({ ...rax, number: 12 }, addressOf("again"));
    a.push(Selector.KERNEL_CODE16);
    a.push(0x9000);
    a.op("lretq");
    a.label("again");
    g.report(2);
    g.done();
    return [0x0234, 2];
  }),
  program(
    "brings a processor from real mode through INIT and SIPI to 64-bit mode",
    (g) => {
      const { a } = g;
      const flag = Gpa.DATA + 0x100;
      g.store32(LAPIC + 0xf0, 0x1ff);
      g.store32(LAPIC + 0x310, 1 << 24);
      g.store32(LAPIC + 0x300, 0x4500);
      g.store32(LAPIC + 0x310, 1 << 24);
      g.store32(LAPIC + 0x300, 0x4600 | (Gpa.TRAMPOLINE >> 12));
      a.label("wait");
      a.op("pause");
      a.mov(eax, flag);
      a.mov(eax, at(rax));
      a.test(eax, -1);
      a.j("z", "wait");
      g.report(eax);
      a.mov(eax, flag + 4);
      a.mov(eax, at(rax));
      g.report(eax);
      g.done();
      a.label("processor");
      a.mov(eax, LAPIC + 0x20);
      a.mov(edx, at(rax));
      a.shift("shr", edx, 24);
      a.mov(eax, flag + 4);
      a.mov(at(rax), edx);
      a.mov(eax, flag);
      a.mov(at(rax, 0, 32), 0x600d);
      a.label("park");
      a.op("hlt");
      a.jmp("park");
      return [0x600d, 1];
    },
    {
      vcpus: 2,
      prepare: (bench, g) => {
        const bytes = trampoline(g.a.addressOf("processor"));
        bench.ram.bytes.set(bytes, Gpa.TRAMPOLINE);
        bench.vm.memoryWritten(Gpa.TRAMPOLINE, bytes.length);
      },
    },
  ),
  program("leaves 64-bit mode for protected mode without paging and returns", (g) => {
    const { a } = g;
    farTo(g, Selector.KERNEL_CODE32, "compat");
    a.bits(32);
    a.label("compat");
    a.movFromSystem(eax, cr(0));
    a.and(eax, 0x7fffffff);
    a.movToSystem(cr(0), eax);
    a.mov(ecx, 0xc0000080);
    a.op("rdmsr");
    reportEax(g);
    a.mov(ebx, 0xf00);
    a.movFromSystem(eax, cr(0));
    a.or(eax, 0x80000000);
    a.movToSystem(cr(0), eax);
    a.op("rdmsr");
    reportEax(g);
    a.jmpFar(Selector.KERNEL_CODE, addressOf("long"), 32);
    a.bits(64);
    a.label("long");
    g.report(3);
    g.done();
    return [0x901, 0xd01, 3];
  }),
];
