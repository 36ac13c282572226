import { at, al, eax, ebx, ecx, mem, rax, rbx, rcx, rdx, rsp } from "../../asm/index.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { IOAPIC, LAPIC, Port } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

/** Local APIC register offsets (SDM 3A §11.4.1). */
const Apic = {
  ID: 0x20,
  TPR: 0x80,
  EOI: 0xb0,
  SVR: 0xf0,
  ICR: 0x300,
  ICR_HIGH: 0x310,
  LVT_TIMER: 0x320,
  LVT_LINT0: 0x350,
  INITIAL: 0x380,
  CURRENT: 0x390,
  DIVIDE: 0x3e0,
} as const;
const SELF = 0x40000;
const VECTOR = 0x30;

const apic = (g: GuestProgram, register: number, value: number): void => {
  g.store32(LAPIC + register, value);
};
const eoi = (g: GuestProgram): void => {
  apic(g, Apic.EOI, 0);
};
/** Software-enables the local APIC and masks the 8259 pair. */
const enableApic = (g: GuestProgram): void => {
  apic(g, Apic.SVR, 0x1ff);
  pic(g, 0xff, 0xff);
};
/** Initialises the 8259 pair: vectors from 0x20 and 0x28, these masks. */
const pic = (g: GuestProgram, masterMask: number, slaveMask: number): void => {
  const sequence = [
    [0x20, 0x11],
    [0x21, 0x20],
    [0x21, 4],
    [0x21, 1],
    [0xa0, 0x11],
    [0xa1, 0x28],
    [0xa1, 2],
    [0xa1, 1],
    [0x21, masterMask],
    [0xa1, slaveMask],
  ] as const;
  for (const [port, value] of sequence) {
    g.a.mov(eax, value);
    g.a.out(port, al);
  }
};
const ioapic = (g: GuestProgram, index: number, value: number): void => {
  g.store32(IOAPIC, index);
  g.store32(IOAPIC + 0x10, value);
};
const setIrq = (g: GuestProgram, gsi: number, level: boolean): void => {
  g.a.mov(eax, gsi | (level ? 0x100 : 0));
  g.a.out(Port.IRQ, eax);
};

/** Handler of `vector`: counts in EBX after `body`, ends the interrupt, returns. */
function onInterrupt(g: GuestProgram, vector: number, body: () => void): void {
  const label = `irq.${vector.toString()}`;
  g.gate(vector, { label });
  g.a.label(label);
  g.a.push(rax);
  body();
  eoi(g);
  g.a.pop(rax);
  g.a.op("iretq");
}

/** Spins until EBX reaches `count`. */
function waitFor(g: GuestProgram, count: number, sleep: boolean): void {
  const again = g.a.unique("wait");
  const end = g.a.unique("waited");
  g.a.label(again);
  g.a.op("cli");
  g.a.cmp(ebx, count);
  g.a.j("ae", end);
  g.a.op("sti");
  if (sleep) g.a.op("hlt");
  else g.a.op("nop");
  g.a.jmp(again);
  g.a.label(end);
}

export const interruptCases: readonly ConformanceCase[] = [
  program("delivers behind the instruction after STI, and at once behind POPF", (g) => {
    const { a } = g;
    enableApic(g);
    a.mov(ebx, 0);
    apic(g, Apic.ICR, SELF | VECTOR);
    a.op("sti");
    a.inc(ebx);
    a.inc(ebx);
    a.op("cli");
    apic(g, Apic.ICR, SELF | VECTOR);
    a.mov(ebx, 10);
    a.push(0x202);
    a.op("popf");
    a.inc(ebx);
    a.op("cli");
    g.report(ebx);
    g.done();
    onInterrupt(g, VECTOR, () => {
      g.report(ebx);
    });
    return [1, 10, 11];
  }),
  program("holds interrupts while IF is clear and takes the highest vector first", (g) => {
    const { a } = g;
    enableApic(g);
    for (const vector of [0x31, 0x35, 0x3a]) apic(g, Apic.ICR, SELF | vector);
    a.mov(ebx, 0);
    g.report(100);
    waitFor(g, 3, false);
    g.done();
    for (const vector of [0x31, 0x35, 0x3a]) {
      onInterrupt(g, vector, () => {
        g.report(vector);
        a.inc(ebx);
      });
    }
    return [100, 0x3a, 0x35, 0x31];
  }),
  program("respects the task priority in CR8", (g) => {
    const { a } = g;
    enableApic(g);
    a.mov(ebx, 0);
    a.mov(rax, 3);
    a.movToSystem({ kind: "control", number: 8 }, rax);
    apic(g, Apic.ICR, SELF | 0x35);
    a.op("sti");
    a.op("nop");
    a.op("nop");
    a.op("cli");
    g.report(ebx);
    a.mov(eax, LAPIC + Apic.TPR);
    a.mov(eax, at(rax));
    g.report(eax);
    a.mov(rax, 2);
    a.movToSystem({ kind: "control", number: 8 }, rax);
    a.op("sti");
    a.op("nop");
    a.op("nop");
    a.op("cli");
    g.report(ebx);
    g.done();
    onInterrupt(g, 0x35, () => a.inc(ebx));
    return [0, 0x30, 1];
  }),
  program("wakes HLT by the one-shot timer and counts down", (g) => {
    const { a } = g;
    enableApic(g);
    a.mov(ebx, 0);
    apic(g, Apic.DIVIDE, 0xb);
    apic(g, Apic.LVT_TIMER, VECTOR);
    apic(g, Apic.INITIAL, 20000);
    waitFor(g, 1, true);
    a.mov(eax, LAPIC + Apic.CURRENT);
    a.mov(eax, at(rax));
    g.report(eax);
    g.report(ebx);
    g.done();
    onInterrupt(g, VECTOR, () => a.inc(ebx));
    return [0, 1];
  }),
  program("repeats the periodic timer until it is stopped", (g) => {
    const { a } = g;
    enableApic(g);
    a.mov(ebx, 0);
    apic(g, Apic.DIVIDE, 0xb);
    apic(g, Apic.LVT_TIMER, 0x20000 | VECTOR);
    apic(g, Apic.INITIAL, 50000);
    waitFor(g, 5, true);
    apic(g, Apic.INITIAL, 0);
    g.report(ebx);
    g.done();
    onInterrupt(g, VECTOR, () => a.inc(ebx));
    return [5];
  }),
  program("fires the timer at a TSC deadline, not before", (g) => {
    const { a } = g;
    enableApic(g);
    a.mov(ebx, 0);
    apic(g, Apic.LVT_TIMER, 0x40000 | VECTOR);
    a.op("mfence");
    a.op("rdtsc");
    a.shift("shl", rdx, 32);
    a.or(rax, rdx);
    a.add(rax, 200000);
    a.mov({ ...rax, number: 8 }, rax);
    a.mov(rdx, rax);
    a.shift("shr", rdx, 32);
    a.mov(ecx, 0x6e0);
    a.op("wrmsr");
    waitFor(g, 1, true);
    a.op("rdtsc");
    a.shift("shl", rdx, 32);
    a.or(rax, rdx);
    a.cmp(rax, { ...rax, number: 8 });
    a.set("ae", al);
    a.extend("movzx", eax, al);
    g.report(eax);
    a.mov(ecx, 0x6e0);
    a.op("rdmsr");
    a.or(eax, { ...eax, number: 2 });
    g.report(eax);
    g.done();
    onInterrupt(g, VECTOR, () => a.inc(ebx));
    return [1, 0];
  }),
  program("routes a line through the IOAPIC, by edge and by level", (g) => {
    const { a } = g;
    enableApic(g);
    a.mov(ebx, 0);
    ioapic(g, 0x10 + 2 * 10 + 1, 0);
    ioapic(g, 0x10 + 2 * 10, 0x31);
    ioapic(g, 0x10 + 2 * 11 + 1, 0);
    ioapic(g, 0x10 + 2 * 11, 0x8000 | 0x32);
    a.op("sti");
    setIrq(g, 10, true);
    a.op("nop");
    setIrq(g, 10, true);
    a.op("nop");
    setIrq(g, 10, false);
    setIrq(g, 10, true);
    a.op("nop");
    a.op("cli");
    g.report(ebx);
    a.mov(ebx, 0);
    setIrq(g, 11, true);
    waitFor(g, 3, false);
    g.report(ebx);
    g.done();
    onInterrupt(g, 0x31, () => a.inc(ebx));
    onInterrupt(g, 0x32, () => {
      a.inc(ebx);
      const more = a.unique("more");
      a.cmp(ebx, 3);
      a.j("b", more);
      setIrq(g, 11, false);
      a.label(more);
    });
    return [2, 3];
  }),
  program("leaves a masked IOAPIC input alone", (g) => {
    const { a } = g;
    enableApic(g);
    a.mov(ebx, 0);
    ioapic(g, 0x10 + 2 * 10 + 1, 0);
    ioapic(g, 0x10 + 2 * 10, 0x10031);
    a.op("sti");
    setIrq(g, 10, true);
    a.op("nop");
    a.op("cli");
    g.report(ebx);
    g.done();
    onInterrupt(g, 0x31, () => a.inc(ebx));
    return [0];
  }),
  program("takes interrupts of the 8259 pair through LINT0", (g) => {
    const { a } = g;
    enableApic(g);
    apic(g, Apic.LVT_LINT0, 0x700);
    a.mov(ebx, 0);
    pic(g, 0xdb, 0xfd);
    a.op("sti");
    setIrq(g, 5, true);
    a.op("nop");
    setIrq(g, 5, false);
    setIrq(g, 9, true);
    a.op("nop");
    a.op("cli");
    g.report(ebx);
    g.done();
    for (const vector of [0x25, 0x29]) {
      g.gate(vector, { label: `pic.${vector.toString()}` });
      a.label(`pic.${vector.toString()}`);
      a.push(rax);
      g.report(vector);
      a.inc(ebx);
      a.mov(eax, 0x20);
      a.out(0xa0, al);
      a.out(0x20, al);
      a.pop(rax);
      a.op("iretq");
    }
    return [0x25, 0x29, 2];
  }),
  program("interrupts REP between iterations and finishes it", (g) => {
    const { a } = g;
    enableApic(g);
    a.mov(ebx, 0);
    apic(g, Apic.DIVIDE, 0xb);
    apic(g, Apic.LVT_TIMER, 0x20000 | VECTOR);
    apic(g, Apic.INITIAL, 3000);
    a.op("sti");
    a.label("again");
    a.mov(rcx, 0x1000);
    a.mov({ ...rax, number: 7 }, 0x90000);
    a.rep();
    a.string("stos", 8);
    a.cmp(rcx, 0);
    a.j("nz", "wrong");
    a.cmp(ebx, 3);
    a.j("b", "again");
    a.label("wrong");
    a.op("cli");
    g.report(ecx);
    g.done();
    onInterrupt(g, VECTOR, () => a.inc(ebx));
    return [0];
  }),
  program("delivers an NMI once and masks further ones until IRETQ", (g) => {
    const { a } = g;
    enableApic(g);
    g.gate(2, { label: "nmi" });
    a.mov(ebx, 0);
    apic(g, Apic.ICR, SELF_NMI(g));
    a.op("nop");
    g.report(ebx);
    g.done();
    a.label("nmi");
    a.push(rax);
    a.inc(ebx);
    a.pop(rax);
    a.op("iretq");
    return [1];
  }),
  program("takes an NMI that came in an NMI's handler right behind its IRETQ", (g) => {
    const { a } = g;
    enableApic(g);
    g.gate(2, { label: "nmi" });
    a.mov(ebx, 0);
    apic(g, Apic.ICR, SELF_NMI(g));
    a.label("interrupted");
    a.op("nop");
    a.op("nop");
    g.done();
    a.label("nmi");
    a.inc(ebx);
    a.cmp(ebx, 1);
    a.j("ne", "second");
    apic(g, Apic.ICR, SELF_NMI(g));
    g.report(ebx);
    a.op("iretq");
    a.label("second");
    a.mov(eax, at(rsp));
    g.report(eax);
    a.op("iretq");
    return () => [1, a.addressOf("interrupted")];
  }),
  program("writes the error and ID registers of the local APIC as hardware does", (g) => {
    const { a } = g;
    enableApic(g);
    a.mov(eax, LAPIC + Apic.ID);
    a.mov(eax, at(rax));
    g.report(eax);
    a.mov(eax, LAPIC + 0x30);
    a.mov(eax, at(rax));
    a.and(eax, 0xf0);
    g.report(eax);
    g.done();
    return [0, 0x10];
  }),
  program("keeps interrupts out of the handler's frame: RSP and RIP are those of the boundary", (g) => {
    const { a } = g;
    enableApic(g);
    apic(g, Apic.ICR, SELF | VECTOR);
    a.mov(rbx, rsp);
    a.op("sti");
    a.op("nop");
    a.label("boundary");
    a.op("nop");
    a.op("cli");
    g.done();
    g.gate(VECTOR, { label: "frame" });
    a.label("frame");
    a.mov(eax, at(rsp));
    g.report(eax);
    a.mov(rcx, at(rsp, 24));
    a.sub(rcx, rbx);
    g.report(rcx);
    eoi(g);
    a.lea(rax, mem({ label: "boundary" }));
    a.op("iretq");
    return () => [a.addressOf("boundary"), 0];
  }),
];

/** NMI by physical destination: self shorthand takes fixed delivery only. */
function SELF_NMI(g: GuestProgram): number {
  apic(g, Apic.ICR_HIGH, 0);
  return 0x400;
}
