import {
  addressOf,
  at,
  cr,
  dr,
  dx,
  eax,
  ebx,
  ecx,
  ax,
  ss,
  ds,
  mem,
  rax,
  rbx,
  rcx,
  rdx,
  rsp,
} from "../../asm/index.ts";
import { windowEntry, windowPage } from "./bench.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { Gpa, interruptStack, kernelStack, PTE, Selector } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

/** A handler that reports what `body` puts into EAX, then returns by IRETQ. */
function handler(g: GuestProgram, label: string, body: () => void): void {
  g.a.label(label);
  g.a.push(rax);
  body();
  g.a.pop(rax);
  g.a.op("iretq");
}

export const exceptionCases: readonly ConformanceCase[] = [
  program("raises #DE at the division, for zero and for a quotient too large", (g) => {
    const { a } = g;
    a.mov(rdx, 0);
    a.mov(rcx, 0);
    const zero = g.faults(() => a.unary("div", ecx));
    a.mov(rdx, 5);
    a.mov(rcx, 5);
    g.faults(() => a.unary("div", rcx));
    a.mov(rax, 1n << 63n);
    a.mov(rdx, -1);
    a.mov(rcx, -1);
    g.faults(() => a.unary("idiv", rcx));
    g.done();
    return () => [{ vector: 0, rip: g.a.addressOf(zero), error: 0 }, { vector: 0 }, { vector: 0 }];
  }),
  program("raises #BP behind INT3, #UD and #NM at the instruction", (g) => {
    const { a } = g;
    const breakpoint = g.faults(() => a.op("int3"));
    const undefinedOpcode = g.faults(() => a.op("ud2"));
    a.movFromSystem(rax, cr(0));
    a.or(rax, 8);
    a.movToSystem(cr(0), rax);
    const noFpu = g.faults(() => a.op("fninit"));
    g.faults(() => a.bytes(0x0f, 0x28, 0xc1));
    a.op("clts");
    a.op("fninit");
    g.report(1);
    g.done();
    return () => [
      { vector: 3, rip: a.addressOf(breakpoint) + 1 },
      { vector: 6, rip: a.addressOf(undefinedOpcode) },
      { vector: 7, rip: a.addressOf(noFpu) },
      { vector: 7 },
      1,
    ];
  }),
  program("raises #UD for what 64-bit mode took away", (g) => {
    for (const opcode of [0x06, 0x27, 0x37, 0x60, 0x9a, 0xce, 0xd4, 0xea])
      g.faults((a) => a.bytes(opcode, 0, 0, 0, 0, 0, 0));
    g.done();
    return Array.from({ length: 8 }, () => ({ vector: 6 }));
  }),
  program("single-steps with TF: #DB after each instruction", (g) => {
    const { a } = g;
    g.gate(1, { label: "step" });
    a.mov(ebx, 0);
    a.push(0x102);
    a.op("popf");
    a.label("first");
    a.inc(ebx);
    a.label("second");
    a.inc(ebx);
    a.label("third");
    a.push(2);
    a.label("fourth");
    a.op("popf");
    a.label("fifth");
    g.report(ebx);
    g.done();
    handler(g, "step", () => {
      a.mov(eax, at(rsp, 8));
      g.report(eax);
      a.movFromSystem(rax, dr(6));
      a.shift("shr", eax, 14);
      a.and(eax, 1);
      g.report(eax);
    });
    return () => [
      a.addressOf("second"),
      1,
      a.addressOf("third"),
      1,
      a.addressOf("fourth"),
      1,
      a.addressOf("fifth"),
      1,
      2,
    ];
  }),
  program("holds #DB off for the instruction behind MOV SS", (g) => {
    const { a } = g;
    g.gate(1, { label: "step" });
    a.mov(ecx, Selector.KERNEL_DATA);
    a.push(0x102);
    a.op("popf");
    a.movSegment(ss, ecx);
    a.inc(ebx);
    a.label("behind");
    a.push(2);
    a.label("last");
    a.op("popf");
    a.label("end");
    g.done();
    handler(g, "step", () => {
      a.mov(eax, at(rsp, 8));
      g.report(eax);
    });
    return () => [a.addressOf("behind"), a.addressOf("last"), a.addressOf("end")];
  }),
  program(
    "stops at instruction and data breakpoints of DR0–DR3",
    (g) => {
      const { a } = g;
      g.gate(1, { label: "hit" });
      a.mov(rax, addressOf("here"));
      a.movToSystem(dr(0), rax);
      a.mov(rax, Gpa.DATA + 8);
      a.movToSystem(dr(1), rax);
      // DR0 executes, DR1 writes of 4 bytes; both enabled locally.
      a.mov(rax, 0xd00405);
      a.movToSystem(dr(7), rax);
      a.label("here");
      a.op("nop");
      a.mov(rcx, Gpa.DATA);
      a.mov(eax, at(rcx, 8));
      a.mov(at(rcx, 8), eax);
      a.label("written");
      a.mov(rax, 0x400);
      a.movToSystem(dr(7), rax);
      g.done();
      handler(g, "hit", () => {
        a.mov(eax, at(rsp, 8));
        g.report(eax);
        a.movFromSystem(rax, dr(6));
        a.and(eax, 0xf);
        g.report(eax);
        a.or(at(rsp, 24, 32), 0x10000);
        a.mov(rax, 0);
        a.movToSystem(dr(6), rax);
      });
      return () => [a.addressOf("here"), 1, a.addressOf("written"), 2];
    },
    { needs: "guestBreakpoints" },
  ),
  program("raises #NP, #SS and #GP with the selector for bad segments", (g) => {
    const { a } = g;
    const load = (register: typeof ds, selector: number): void => {
      a.mov(ecx, selector);
      g.faults(() => a.movSegment(register, ecx));
    };
    load(ds, Selector.ABSENT_DATA);
    load(ss, Selector.ABSENT_DATA);
    load(ds, 0x1000);
    load(ss, Selector.READ_ONLY_DATA);
    load(ss, Selector.KERNEL_CODE);
    load(ss, Selector.USER_DATA);
    a.mov(ecx, 0);
    a.movSegment(ss, ecx);
    a.movSegment(ds, ecx);
    g.report(1);
    g.done();
    return [
      { vector: 11, error: Selector.ABSENT_DATA },
      { vector: 12, error: Selector.ABSENT_DATA },
      { vector: 13, error: 0x1000 },
      { vector: 13, error: Selector.READ_ONLY_DATA },
      { vector: 13, error: Selector.KERNEL_CODE },
      { vector: 13, error: Selector.USER_DATA & ~3 },
      1,
    ];
  }),
  program(
    "raises #NP and #GP with the vector for gates that are absent, beyond the limit or not for ring 3",
    (g) => {
      const { a } = g;
      g.gate(50, { present: false });
      const absent = g.faults(() => a.int(50));
      a.table("lidt", mem({ label: "short" }));
      g.faults(() => a.int(45));
      g.faults(() => {
        g.enterUser("user");
      });
      g.done();
      a.label("user");
      a.int(34);
      a.label("short");
      a.u16(16 * 40 - 1);
      a.u64(Gpa.IDT);
      return () => [
        { vector: 11, error: 50 * 8 + 2, rip: a.addressOf(absent) },
        { vector: 13, error: 45 * 8 + 2 },
        { vector: 13, error: 34 * 8 + 2, cs: Selector.USER_CODE },
      ];
    },
  ),
  program("raises #GP(0) for privileged instructions in ring 3", (g) => {
    const { a } = g;
    const tries: readonly (() => void)[] = [
      () => a.op("hlt"),
      () => a.op("cli"),
      () => a.op("rdmsr"),
      () => a.movFromSystem(rax, cr(0)),
      () => a.movToSystem(dr(7), rax),
      () => a.table("lidt", at(rsp)),
      () => a.table("invlpg", at(rsp)),
      () => a.op("clts"),
      () => a.op("swapgs"),
      () => a.out(0x80, eax),
      () => a.in(eax, dx),
      () => a.op("wbinvd"),
      () => a.op("sysretq"),
      () => a.ltr(eax),
    ];
    tries.forEach((privileged, i) => {
      const label = `user.${i.toString()}`;
      const behind = `behind.${i.toString()}`;
      g.faults(() => {
        g.enterUser(label);
      });
      a.jmp(behind);
      a.label(label);
      privileged();
      a.label(behind);
    });
    g.done();
    return () => tries.map((_, i) => ({ vector: 13, error: 0, rip: a.addressOf(`user.${i.toString()}`) }));
  }),
  program("refuses reserved bits and impossible modes in CR0, CR4, EFER and unknown MSRs", (g) => {
    const { a } = g;
    a.mov(rax, 0x80000000);
    g.faults(() => a.movToSystem(cr(0), rax));
    a.movFromSystem(rax, cr(0));
    a.or(rax, 0x20000000);
    g.faults(() => a.movToSystem(cr(0), rax));
    a.movFromSystem(rax, cr(4));
    a.mov(rcx, 1n << 40n);
    a.or(rax, rcx);
    g.faults(() => a.movToSystem(cr(4), rax));
    a.movFromSystem(rax, cr(4));
    a.and(rax, ~0x20);
    g.faults(() => a.movToSystem(cr(4), rax));
    g.faults(() => {
      g.writeMsr(0x12345678, 0);
    });
    g.faults(() => {
      g.writeMsr(0xc0000082, 0, 0x800000);
    });
    a.mov(rax, -1);
    g.faults(() => a.movToSystem(cr(8), rax));
    g.done();
    return Array.from({ length: 7 }, () => ({ vector: 13, error: 0 }));
  }),
  program("switches to the gate's interrupt stack, and to RSP0 from ring 3", (g) => {
    const { a } = g;
    g.gate(40, { label: "show", ist: 2 });
    g.gate(41, { label: "show", dpl: 3 });
    a.sub(rsp, 8);
    a.int(40);
    g.faults(() => {
      g.enterUser("user");
    });
    g.done();
    a.label("user");
    a.int(41);
    a.int(33);
    handler(g, "show", () => {
      g.report(rsp);
    });
    return [interruptStack(2) - 48, kernelStack(0) - 48, { vector: 33 }];
  }),
  program("aligns the stack to 16 bytes before it pushes an interrupt frame", (g) => {
    const { a } = g;
    g.gate(40, { label: "show" });
    a.mov(rbx, rsp);
    a.sub(rsp, 5);
    a.int(40);
    a.mov(rsp, rbx);
    g.done();
    handler(g, "show", () => {
      a.mov(rax, rsp);
      a.and(eax, 15);
      g.report(eax);
      a.mov(eax, at(rsp, 32));
      a.sub(eax, ebx);
      g.report(eax);
    });
    return [0, -5];
  }),
  program("clears IF through interrupt gates and leaves it through trap gates", (g) => {
    const { a } = g;
    g.gate(40, { label: "show" });
    g.gate(41, { label: "show", type: "trap" });
    a.op("sti");
    a.int(40);
    a.int(41);
    a.op("cli");
    g.done();
    handler(g, "show", () => {
      a.op("pushf");
      a.pop(rax);
      a.and(eax, 0x200);
      g.report(eax);
      a.mov(eax, at(rsp, 24));
      a.and(eax, 0x200);
      g.report(eax);
    });
    return [0, 0x200, 0x200, 0x200];
  }),
  program("turns a fault while delivering a fault into #DF on its interrupt stack", (g) => {
    const { a } = g;
    g.gate(14, { present: false });
    g.gate(8, { ist: 3 });
    a.mov(rbx, windowPage(3));
    g.faults(() => a.mov(rax, at(rbx)));
    g.done();
    return [{ vector: 8, error: 0 }];
  }),
  program("faults on a frame pushed to an absent stack, and delivers #DF", (g) => {
    const { a } = g;
    g.gate(8, { ist: 3 });
    g.window.set(1, windowEntry(1, PTE.P | PTE.RW));
    a.mov(rcx, rsp);
    g.faults(() => {
      a.mov(rsp, windowPage(1));
      a.op("ud2");
    });
    g.done();
    return [{ vector: 8, error: 0 }];
  }),
  program("pushes an RFLAGS image with RF for faults and honours IRETQ's new flags", (g) => {
    const { a } = g;
    g.gate(6, { label: "flags" });
    a.op("stc");
    a.op("ud2");
    a.op("pushf");
    a.pop(rax);
    a.and(eax, 0x41);
    g.report(eax);
    g.done();
    handler(g, "flags", () => {
      a.mov(eax, at(rsp, 24));
      a.and(eax, 0x10001);
      g.report(eax);
      a.mov(at(rsp, 24, 64), 0x42);
      a.add(at(rsp, 8, 64), 2);
    });
    return [0x10001, 0x40];
  }),
  program(
    "raises #AC for unaligned data in ring 3 once CR0.AM and RFLAGS.AC say so",
    (g) => {
      const { a } = g;
      a.movFromSystem(rax, cr(0));
      a.or(rax, 0x40000);
      a.movToSystem(cr(0), rax);
      g.faults(() => {
        g.enterUser("user", { flags: 0x40002 });
      });
      g.done();
      a.label("user");
      a.mov(rbx, Gpa.DATA);
      a.mov(ax, at(rbx, 2));
      a.mov(eax, at(rbx, 2));
      return [{ vector: 17, error: 0, cs: Selector.USER_CODE }];
    },
    { needs: "alignmentCheck" },
  ),
];
