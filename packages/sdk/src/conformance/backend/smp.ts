import { at, eax, ecx, edx, r8, rax, rbx, rcx, rdi } from "../../asm/index.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { Gpa, LAPIC } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

const COUNTER = Gpa.DATA;
const ARRIVED = Gpa.DATA + 0x40;

/** Waits until `count` processors have arrived. */
function barrier(g: GuestProgram, count: number): void {
  const { a } = g;
  const wait = a.unique("barrier");
  a.mov(rdi, ARRIVED);
  a.lock();
  a.inc(at(rdi, 0, 32));
  a.label(wait);
  a.op("pause");
  a.cmp(at(rdi, 0, 32), count);
  a.j("b", wait);
}

/** `body` runs on each of `vcpus` processors; vCPU 0 reports the counter once all are through. */
function together(
  name: string,
  vcpus: number,
  body: (g: GuestProgram) => void,
  expected: number,
): ConformanceCase {
  return program(
    name,
    (g) => {
      const { a } = g;
      a.label("everybody");
      a.mov(r8, rbx);
      barrier(g, vcpus);
      body(g);
      barrier(g, 2 * vcpus);
      a.test(r8, -1);
      a.j("nz", "rest");
      a.mov(rbx, COUNTER);
      a.mov(eax, at(rbx));
      g.report(eax);
      g.done();
      a.label("rest");
      a.op("pause");
      a.jmp("rest");
      return [expected];
    },
    {
      vcpus,
      prepare: (bench, g) => {
        for (let cpu = 1; cpu < vcpus; cpu++) {
          bench.enterLongMode(cpu, g.a.addressOf("everybody"));
          const vcpu = bench.vcpu(cpu);
          const state = vcpu.getState();
          vcpu.setState({ ...state, regs: { ...state.regs, rbx: BigInt(cpu) } });
        }
      },
    },
  );
}

const repeat = (g: GuestProgram, times: number, body: () => void): void => {
  const again = g.a.unique("repeat");
  g.a.mov(ecx, times);
  g.a.mov(rbx, COUNTER);
  g.a.label(again);
  body();
  g.a.dec(ecx);
  g.a.j("nz", again);
};

export const smpCases: readonly ConformanceCase[] = [
  together(
    "adds up LOCK INC of four processors",
    4,
    (g) => {
      repeat(g, 5000, () => {
        g.a.lock();
        g.a.inc(at(rbx, 0, 32));
      });
    },
    20000,
  ),
  together(
    "adds up LOCK XADD and LOCK CMPXCHG loops",
    3,
    (g) => {
      const { a } = g;
      repeat(g, 2000, () => {
        const retry = a.unique("retry");
        a.mov(eax, at(rbx));
        a.label(retry);
        a.mov(edx, eax);
        a.inc(edx);
        a.exchange("cmpxchg", at(rbx), edx, true);
        a.j("nz", retry);
        a.mov(edx, 1);
        a.exchange("xadd", at(rbx), edx, true);
      });
    },
    12000,
  ),
  together(
    "keeps a spin lock of XCHG exclusive",
    4,
    (g) => {
      const { a } = g;
      repeat(g, 1000, () => {
        const spin = a.unique("spin");
        a.label(spin);
        a.op("pause");
        a.mov(eax, 1);
        a.exchange("xchg", at(rbx, 8), eax);
        a.test(eax, -1);
        a.j("nz", spin);
        a.mov(eax, at(rbx));
        a.inc(eax);
        a.mov(at(rbx), eax);
        a.mov(at(rbx, 8, 32), 0);
      });
    },
    4000,
  ),
  program(
    "sends an interrupt to one processor and to all others",
    (g) => {
      const { a } = g;
      const apic = (register: number, value: number): void => {
        g.store32(LAPIC + register, value);
      };
      apic(0xf0, 0x1ff);
      barrier(g, 3);
      apic(0x310, 2 << 24);
      apic(0x300, 0x35);
      a.mov(rbx, COUNTER);
      a.label("one");
      a.op("pause");
      a.cmp(at(rbx, 8, 32), 1);
      a.j("b", "one");
      apic(0x300, 0xc0000 | 0x35);
      a.mov(rbx, COUNTER);
      a.label("all");
      a.op("pause");
      a.mov(eax, at(rbx, 4));
      a.add(eax, at(rbx, 8));
      a.cmp(eax, 3);
      a.j("b", "all");
      a.mov(eax, at(rbx, 4));
      g.report(eax);
      a.mov(eax, at(rbx, 8));
      g.report(eax);
      g.done();
      a.label("other");
      a.mov(r8, rbx);
      apic(0xf0, 0x1ff);
      barrier(g, 3);
      a.op("sti");
      a.label("idle");
      a.op("hlt");
      a.jmp("idle");
      g.gate(0x35, { label: "ipi" });
      a.label("ipi");
      a.push(rax);
      a.mov(rax, COUNTER);
      a.mov(rcx, r8);
      a.lock();
      a.inc({ kind: "memory", base: rax, index: rcx, scale: 4, bits: 32 });
      apic(0xb0, 0);
      a.pop(rax);
      a.op("iretq");
      return [1, 2];
    },
    {
      vcpus: 3,
      prepare: (bench, g) => {
        for (const cpu of [1, 2]) {
          bench.enterLongMode(cpu, g.a.addressOf("other"));
          const state = bench.vcpu(cpu).getState();
          bench.vcpu(cpu).setState({ ...state, regs: { ...state.regs, rbx: BigInt(cpu) } });
        }
      },
    },
  ),
  together(
    "shows one processor's code changes to another",
    2,
    (g) => {
      const { a } = g;
      // vCPU 1 patches the constant that vCPU 0 executes, until vCPU 0 has seen 50 of them.
      a.test(r8, -1);
      a.j("nz", "patcher");
      a.label("watch");
      a.call("patched");
      a.cmp(eax, 50);
      a.j("b", "watch");
      a.mov(rbx, COUNTER);
      a.mov(at(rbx), eax);
      a.jmp("seen");
      a.label("patched");
      a.mov(eax, 0);
      a.op("ret");
      a.label("patcher");
      a.lea(rbx, { kind: "memory", label: "patched" });
      a.mov(ecx, 50);
      a.label("patch");
      a.inc(at(rbx, 1, 32));
      a.dec(ecx);
      a.j("nz", "patch");
      a.label("seen");
    },
    50,
  ),
];
