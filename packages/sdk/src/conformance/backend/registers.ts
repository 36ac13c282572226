import { at, cr, eax, ebx, ecx, edx, rax, rbx, rcx, rdx, r8 } from "../../asm/index.ts";
import { windowEntry, windowPage } from "./bench.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { NX, PTE } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

const GP = { vector: 13, error: 0 } as const;
const Msr = {
  APIC_BASE: 0x1b,
  PAT: 0x277,
  X2APIC: 0x800,
  EFER: 0xc0000080,
  FS_BASE: 0xc0000100,
  GS_BASE: 0xc0000101,
  KERNEL_GS_BASE: 0xc0000102,
} as const;
/** x2APIC registers: MSR 0x800 + offset / 16 (SDM 3A §11.12.1.2). */
const X2apic = { ID: 0x802, EOI: 0x80b, SVR: 0x80f, ICR: 0x830, SELF_IPI: 0x83f } as const;

/** Reads an MSR into EDX:EAX and reports both, low first. */
function reportMsr(g: GuestProgram, index: number): void {
  g.a.mov(ecx, index);
  g.a.op("rdmsr");
  g.report(eax);
  g.report(edx);
}

export const registerCases: readonly ConformanceCase[] = [
  program("keeps what is written to the system-call and base MSRs", (g) => {
    const indices = [
      0xc0000081,
      0xc0000082,
      0xc0000083,
      Msr.FS_BASE,
      Msr.GS_BASE,
      Msr.KERNEL_GS_BASE,
      0x175,
      0x176,
    ];
    indices.forEach((index, i) => {
      g.writeMsr(index, 0x1000 + i, 0x7000 + i);
      reportMsr(g, index);
    });
    g.writeMsr(0xc0000084, 0x47700);
    reportMsr(g, 0xc0000084);
    g.done();
    return [...indices.flatMap((_, i) => [0x1000 + i, 0x7000 + i]), 0x47700, 0];
  }),
  program("refuses bases that are not canonical, bad memory types and reserved bits of EFER", (g) => {
    for (const index of [Msr.FS_BASE, Msr.GS_BASE, Msr.KERNEL_GS_BASE, 0xc0000082]) {
      g.faults(() => {
        g.writeMsr(index, 0, 0x8000);
      });
    }
    g.faults(() => {
      g.writeMsr(Msr.PAT, 0x02);
    });
    g.faults(() => {
      g.writeMsr(Msr.EFER, 0xd01, 1);
    });
    g.faults(() => {
      g.writeMsr(Msr.EFER, 0xc01);
    });
    reportMsr(g, Msr.EFER);
    g.done();
    return [GP, GP, GP, GP, GP, GP, GP, 0xd01, 0];
  }),
  program("takes the NX bit for a reserved one while EFER.NXE is clear", (g) => {
    const { a } = g;
    g.window.set(0, windowEntry(0, PTE.P | PTE.RW) | NX);
    g.writeMsr(Msr.EFER, 0x501);
    a.mov(rbx, windowPage(0));
    g.faults(() => a.mov(rax, at(rbx)));
    g.writeMsr(Msr.EFER, 0xd01);
    a.mov(rbx, windowPage(0));
    a.mov(rax, at(rbx));
    g.report(1);
    g.done();
    return [{ vector: 14, error: 9 }, 1];
  }),
  program("counts time forwards with RDTSC, which CR4.TSD keeps from ring 3", (g) => {
    const { a } = g;
    a.op("rdtsc");
    a.shift("shl", rdx, 32);
    a.or(rax, rdx);
    a.mov(r8, rax);
    a.mov(rcx, 1000);
    a.label("pass");
    a.dec(rcx);
    a.j("nz", "pass");
    a.op("rdtsc");
    a.shift("shl", rdx, 32);
    a.or(rax, rdx);
    a.cmp(rax, r8);
    const later = a.unique("later");
    a.j("a", later);
    g.report(0xbad);
    a.label(later);
    g.faults(() => {
      g.enterUser("user");
    });
    a.movFromSystem(rax, cr(4));
    a.or(rax, 4);
    a.movToSystem(cr(4), rax);
    g.faults(() => {
      g.enterUser("user");
    });
    g.done();
    a.label("user");
    a.op("rdtsc");
    a.int(33);
    return () => [{ vector: 33 }, { ...GP, rip: a.addressOf("user") }];
  }),
  program("tells the boot processor in APIC_BASE and CPUID", (g) => {
    const { a } = g;
    a.mov(ecx, Msr.APIC_BASE);
    a.op("rdmsr");
    g.report(eax);
    a.mov(eax, 1);
    a.op("cpuid");
    a.shift("shr", ebx, 24);
    g.report(ebx);
    // FPU TSC MSR PAE CX8 APIC PGE CMOV FXSR SSE SSE2: the x86-64 baseline.
    a.mov(eax, edx);
    a.and(eax, 0x0700a371);
    g.report(eax);
    a.mov(eax, 0x80000001);
    a.op("cpuid");
    // SYSCALL, NX, long mode.
    a.and(edx, 0x20100800);
    g.report(edx);
    g.done();
    return [0xfee00900, 0, 0x0700a371, 0x20100800];
  }),
  program("works its local APIC through MSRs in x2APIC mode", (g) => {
    const { a } = g;
    g.gate(0x31, { label: "handler" });
    a.mov(ebx, 0);
    g.writeMsr(Msr.APIC_BASE, 0xfee00d00);
    g.writeMsr(X2apic.SVR, 0x1ff);
    reportMsr(g, X2apic.ID);
    a.op("sti");
    g.writeMsr(X2apic.SELF_IPI, 0x31);
    a.op("nop");
    g.writeMsr(X2apic.ICR, 0x31, 0);
    a.op("nop");
    a.op("cli");
    g.report(ebx);
    // Reserved: the destination format and the high half of ICR do not exist here.
    g.faults(() => {
      g.writeMsr(0x80e, 0);
    });
    g.faults(() => {
      g.writeMsr(0x831, 0);
    });
    // Back to xAPIC only by way of disabled.
    g.faults(() => {
      g.writeMsr(Msr.APIC_BASE, 0xfee00900);
    });
    g.done();
    a.label("handler");
    a.push(rax);
    a.push(rcx);
    a.push(rdx);
    a.inc(ebx);
    g.writeMsr(X2apic.EOI, 0);
    a.pop(rdx);
    a.pop(rcx);
    a.pop(rax);
    a.op("iretq");
    return [0, 0, 2, GP, GP, GP];
  }),
  program("loads CR8 and the task priority of the APIC as one register", (g) => {
    const { a } = g;
    a.mov(rax, 0xfee00080);
    a.mov(at(rax, 0, 32), 0x70);
    a.movFromSystem(rax, cr(8));
    g.report(eax);
    a.mov(rax, 5);
    a.movToSystem(cr(8), rax);
    a.mov(rax, 0xfee00080);
    a.mov(eax, at(rax));
    g.report(eax);
    g.done();
    return [7, 0x50];
  }),
];
