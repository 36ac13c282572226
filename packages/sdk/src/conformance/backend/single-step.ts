import { addressOf, at, dr, eax, ecx, edx, rax, rbx, rcx, rdi, rsp } from "../../asm/index.ts";
import { windowPage } from "./bench.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { Gpa, Selector } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

const TF = 0x100;
const IF_TF_MASK = 0x300;

/** #DB reports where it was taken and whether DR6 names a step. */
function reportSteps(g: GuestProgram): void {
  const { a } = g;
  g.gate(1, { label: "step" });
  a.label("step");
  a.push(rax);
  a.mov(eax, at(rsp, 8));
  g.report(eax);
  a.movFromSystem(rax, dr(6));
  a.shift("shr", eax, 14);
  a.and(eax, 1);
  g.report(eax);
  a.pop(rax);
  a.op("iretq");
}

function steps(g: GuestProgram, on: boolean): void {
  g.a.push(on ? 2 | TF : 2);
  if (!on) g.a.label("flags");
  g.a.op("popf");
}

/** Single steps where control changes hands (SDM 3B §17.3.1.4; APM 2 §13.1.4). */
export const singleStepCases: readonly ConformanceCase[] = [
  program("steps SYSCALL and SYSRET by the TF that they leave", (g) => {
    const { a } = g;
    g.writeMsr(0xc0000081, 0, ((Selector.USER_CODE32 << 16) | Selector.KERNEL_CODE) >>> 0);
    g.writeMsr(0xc0000084, IF_TF_MASK);
    a.mov(ecx, 0xc0000082);
    a.mov(rax, addressOf("kernel"));
    a.mov(edx, 0);
    a.op("wrmsr");
    g.faults(() => {
      g.enterUser("user", { flags: 2 | TF });
    });
    g.done();
    a.label("user");
    a.op("nop");
    a.label("call");
    a.op("syscall");
    a.label("back");
    a.int(33);
    a.label("kernel");
    g.report(1);
    a.op("sysretq");
    reportSteps(g);
    return () => [a.addressOf("call"), 1, 1, a.addressOf("back"), 1, { vector: 33, cs: Selector.USER_CODE }];
  }),
  program("does not step INT n into its handler", (g) => {
    const { a } = g;
    g.gate(34, { label: "handler" });
    steps(g, true);
    a.int(34);
    a.label("behind");
    steps(g, false);
    a.label("end");
    g.done();
    a.label("handler");
    g.report(2);
    a.op("iretq");
    reportSteps(g);
    // IRETQ restores TF, which counts from the next instruction.
    return () => [2, a.addressOf("flags"), 1, a.addressOf("end"), 1];
  }),
  program("steps every iteration of a repeated string instruction", (g) => {
    const { a } = g;
    a.mov(rdi, Gpa.DATA);
    a.mov(rcx, 3);
    steps(g, true);
    a.label("rep");
    a.rep();
    a.string("stos", 8);
    a.label("behind");
    steps(g, false);
    a.label("end");
    g.done();
    reportSteps(g);
    return () => {
      const rep = a.addressOf("rep");
      return [rep, rep, a.addressOf("behind"), a.addressOf("flags"), a.addressOf("end")].flatMap((rip) => [
        rip,
        1,
      ]);
    };
  }),
  program("takes the step before a fault of the next fetch", (g) => {
    const { a } = g;
    const nowhere = windowPage(7);
    a.mov(rbx, nowhere);
    g.faults(() => {
      steps(g, true);
      a.jmp(rbx);
    });
    g.done();
    reportSteps(g);
    return [nowhere % 2 ** 32, 1, { vector: 14, error: 16, rip: nowhere % 2 ** 32 }];
  }),
  program("wakes from HLT at once", (g) => {
    const { a } = g;
    steps(g, true);
    a.op("hlt");
    a.label("behind");
    steps(g, false);
    a.label("end");
    g.done();
    reportSteps(g);
    return () => [a.addressOf("behind"), 1, a.addressOf("flags"), 1, a.addressOf("end"), 1];
  }),
];
