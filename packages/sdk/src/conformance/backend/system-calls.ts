import {
  addressOf,
  at,
  cs,
  eax,
  ecx,
  edx,
  esp as rspLow,
  gs,
  mem,
  r10,
  rax,
  rbx,
  rcx,
  rdx,
  rsp,
  ss,
} from "../../asm/index.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { Gpa, kernelStack, Selector, USER_STACK } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

const Msr = {
  SYSENTER_CS: 0x174,
  SYSENTER_ESP: 0x175,
  SYSENTER_EIP: 0x176,
  STAR: 0xc0000081,
  LSTAR: 0xc0000082,
  CSTAR: 0xc0000083,
  SFMASK: 0xc0000084,
  GS_BASE: 0xc0000101,
  KERNEL_GS_BASE: 0xc0000102,
  FS_BASE: 0xc0000100,
} as const;

function writeMsrLabel(g: GuestProgram, index: number, label: string): void {
  const { a } = g;
  a.mov(ecx, index);
  a.mov(rax, addressOf(label));
  a.mov(edx, 0);
  a.op("wrmsr");
}
const star = (g: GuestProgram): void => {
  g.writeMsr(Msr.STAR, 0, ((Selector.USER_CODE32 << 16) | Selector.KERNEL_CODE) >>> 0);
};

export const systemCallCases: readonly ConformanceCase[] = [
  program("goes to ring 3 by IRETQ and back by a gate", (g) => {
    const { a } = g;
    g.faults(() => {
      g.enterUser("user", { flags: 0x3002 });
    });
    g.done();
    a.label("user");
    a.readSegment(eax, cs);
    a.mov({ ...eax, number: 3 }, eax);
    a.out(0xe0, eax);
    a.readSegment(eax, ss);
    a.out(0xe0, eax);
    a.mov(eax, rspLow);
    a.out(0xe0, eax);
    a.int(33);
    return [
      Selector.USER_CODE,
      Selector.USER_DATA,
      USER_STACK,
      { vector: 33, cs: Selector.USER_CODE, error: 0 },
    ];
  }),
  program("enters by SYSCALL with RCX, R11 and the mask, and leaves by SYSRETQ", (g) => {
    const { a } = g;
    star(g);
    writeMsrLabel(g, Msr.LSTAR, "kernel");
    g.writeMsr(Msr.SFMASK, 0x3401);
    g.faults(() => {
      g.enterUser("user", { flags: 0x3403 });
    });
    g.done();
    a.label("user");
    a.op("syscall");
    a.label("returned");
    a.readSegment(eax, cs);
    a.out(0xe0, eax);
    a.readSegment(eax, ss);
    a.out(0xe0, eax);
    a.op("pushf");
    a.pop(rax);
    a.and(eax, 0x3401);
    a.out(0xe0, eax);
    a.int(33);
    a.label("kernel");
    a.mov(r10, rsp);
    a.mov(rsp, kernelStack(0) - 0x800);
    g.report(rcx);
    g.report({ ...rax, number: 11 });
    a.op("pushf");
    a.pop(rax);
    a.and(eax, 0x3401);
    g.report(eax);
    a.readSegment(eax, cs);
    g.report(eax);
    a.readSegment(eax, ss);
    g.report(eax);
    a.mov(rsp, r10);
    a.op("sysretq");
    return () => [
      a.addressOf("returned"),
      0x3403,
      0,
      Selector.KERNEL_CODE,
      Selector.KERNEL_DATA,
      Selector.USER_CODE,
      Selector.USER_DATA,
      0x3401,
      { vector: 33 },
    ];
  }),
  program("raises #UD for SYSCALL and SYSRET while EFER.SCE is clear", (g) => {
    const { a } = g;
    g.writeMsr(0xc0000080, 0xd00);
    g.faults(() => a.op("syscall"));
    g.faults(() => a.op("sysretq"));
    g.writeMsr(0xc0000080, 0xd01);
    g.done();
    return [{ vector: 6 }, { vector: 6 }];
  }),
  program("enters by SYSENTER and leaves by SYSEXITQ", (g) => {
    const { a } = g;
    g.writeMsr(Msr.SYSENTER_CS, Selector.KERNEL_CODE);
    g.writeMsr(Msr.SYSENTER_ESP, kernelStack(0) - 0x400);
    writeMsrLabel(g, Msr.SYSENTER_EIP, "kernel");
    g.faults(() => {
      g.enterUser("user", { flags: 0x3202 });
    });
    g.done();
    a.label("user");
    a.op("sysenter");
    a.label("kernel");
    g.report(rsp);
    a.op("pushf");
    a.pop(rax);
    a.and(eax, 0x200);
    g.report(eax);
    a.readSegment(eax, cs);
    g.report(eax);
    a.mov(rdx, addressOf("back"));
    a.mov(rcx, USER_STACK - 64);
    a.op("sysexitq");
    a.label("back");
    a.readSegment(eax, cs);
    a.out(0xe0, eax);
    a.mov(eax, rspLow);
    a.out(0xe0, eax);
    a.int(33);
    return [
      kernelStack(0) - 0x400,
      0,
      Selector.KERNEL_CODE,
      Selector.USER_CODE,
      USER_STACK - 64,
      { vector: 33 },
    ];
  }),
  program("swaps GS bases and addresses through FS and GS", (g) => {
    const { a } = g;
    g.memory.set(Gpa.DATA, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0));
    g.writeMsr(Msr.FS_BASE, Gpa.DATA);
    g.writeMsr(Msr.GS_BASE, Gpa.DATA + 8);
    g.writeMsr(Msr.KERNEL_GS_BASE, Gpa.DATA + 16);
    a.mov(rbx, 0);
    a.mov(eax, mem({ base: rbx, segment: { kind: "segment", name: "fs", number: 4 } }));
    g.report(eax);
    a.mov(eax, mem({ base: rbx, segment: gs }));
    g.report(eax);
    a.op("swapgs");
    a.mov(eax, mem({ base: rbx, segment: gs }));
    g.report(eax);
    a.mov(ecx, Msr.KERNEL_GS_BASE);
    a.op("rdmsr");
    g.report(eax);
    g.done();
    return [1, 2, 3, Gpa.DATA + 8];
  }),
  program("checks what IRETQ loads", (g) => {
    const { a } = g;
    const frame = (code: number, stack: number, rip: number | bigint = 0x20000): void => {
      a.push(stack);
      a.push(USER_STACK);
      a.push(2);
      a.push(code);
      a.mov(rax, rip);
      a.push(rax);
    };
    frame(Selector.ABSENT_CODE, Selector.KERNEL_DATA);
    g.faults(() => a.op("iretq"));
    frame(Selector.USER_CODE, Selector.KERNEL_DATA);
    g.faults(() => a.op("iretq"));
    frame(0, Selector.KERNEL_DATA);
    g.faults(() => a.op("iretq"));
    frame(Selector.USER_CODE, Selector.USER_DATA, 1n << 50n);
    g.faults(() => a.op("iretq"));
    frame(Selector.KERNEL_DATA, Selector.KERNEL_DATA);
    g.faults(() => a.op("iretq"));
    g.done();
    return [
      { vector: 11, error: Selector.ABSENT_CODE },
      { vector: 13, error: Selector.KERNEL_DATA },
      { vector: 13, error: 0 },
      { vector: 13, error: 0 },
      { vector: 13, error: Selector.KERNEL_DATA },
    ];
  }),
  program("lets ring 3 change only its own flags by POPF", (g) => {
    const { a } = g;
    g.faults(() => {
      g.enterUser("user");
    });
    g.report(rbx);
    g.done();
    a.label("user");
    a.push(0x3ed7);
    a.op("popf");
    a.op("pushf");
    a.mov(rbx, at(rsp));
    a.int(33);
    return [{ vector: 33 }, 0xcd7];
  }),
];
