import {
  addressOf,
  al,
  at,
  cr,
  dr,
  dx,
  eax,
  ecx,
  edx,
  type Immediate,
  rax,
  rcx,
  rdi,
  rsp,
} from "../../asm/index.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { Gpa, Port } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

/** Conditions of DR7's R/W fields. */
const CODE = 0;
const WRITE = 1;
const IO = 2;
const ACCESS = 3;
const LENGTH = { 1: 0, 2: 1, 8: 2, 4: 3 } as const;
const RESUME = 0x10000;

/** Sets DR`n` and enables it alone. */
function watch(
  g: GuestProgram,
  n: 0 | 1 | 2 | 3,
  address: Immediate,
  kind: number,
  length: 1 | 2 | 4 | 8,
): void {
  const { a } = g;
  a.mov(rax, address);
  a.movToSystem(dr(n), rax);
  a.mov(rax, 0x400 | (1 << (2 * n)) | (((LENGTH[length] << 2) | kind) << (16 + 4 * n)));
  a.movToSystem(dr(7), rax);
}

/** A #DB handler that reports RIP and the low half of DR6, clears DR6 and sets RF. */
function handler(g: GuestProgram): void {
  const { a } = g;
  g.gate(1, { label: "hit" });
  const behind = a.unique("behind");
  a.jmp(behind);
  a.label("hit");
  a.push(rax);
  a.mov(eax, at(rsp, 8));
  g.report(eax);
  a.movFromSystem(rax, dr(6));
  a.and(eax, 0xe00f);
  g.report(eax);
  a.mov(rax, 0);
  a.movToSystem(dr(6), rax);
  a.or(at(rsp, 24, 32), RESUME);
  a.pop(rax);
  a.op("iretq");
  a.label(behind);
}

const needs = { needs: "guestBreakpoints" } as const;

export const breakpointCases: readonly ConformanceCase[] = [
  program(
    "watches exactly the bytes of LEN, aligned, for writes or for both",
    (g) => {
      const { a } = g;
      handler(g);
      a.mov(rcx, Gpa.DATA);
      watch(g, 2, Gpa.DATA + 9, WRITE, 2);
      a.mov(at(rcx, 7, 8), 1);
      a.mov(at(rcx, 10, 8), 1);
      a.mov(eax, at(rcx, 8));
      a.mov(at(rcx, 6), eax);
      a.label("first");
      watch(g, 1, Gpa.DATA + 8, ACCESS, 8);
      a.mov(al, at(rcx, 15));
      a.label("second");
      a.mov(al, at(rcx, 16));
      a.mov(at(rcx, 1), rax);
      a.label("third");
      g.done();
      return () => [a.addressOf("first"), 4, a.addressOf("second"), 2, a.addressOf("third"), 2];
    },
    needs,
  ),
  program(
    "meets a code breakpoint each time, but not behind an IRET with RF",
    (g) => {
      const { a } = g;
      handler(g);
      watch(g, 3, addressOf("loop"), CODE, 1);
      a.mov(rcx, 2);
      a.label("loop");
      a.dec(ecx);
      a.j("nz", "loop");
      a.mov(rax, 0);
      a.movToSystem(dr(7), rax);
      a.label("off");
      a.jmp("end");
      a.label("end");
      g.done();
      return () => [a.addressOf("loop"), 8, a.addressOf("loop"), 8];
    },
    needs,
  ),
  program(
    "traps between the iterations of a repeated string instruction",
    (g) => {
      const { a } = g;
      handler(g);
      watch(g, 0, Gpa.DATA + 4, WRITE, 4);
      a.mov(rdi, Gpa.DATA);
      a.mov(rcx, 4);
      a.op("cld");
      a.label("string");
      a.rep();
      a.string("stos", 32);
      g.report(ecx);
      g.done();
      return () => [a.addressOf("string"), 1, 0];
    },
    needs,
  ),
  program(
    "stops behind I/O to a watched port once CR4.DE is set",
    (g) => {
      const { a } = g;
      handler(g);
      watch(g, 0, Port.SCRATCH, IO, 2);
      a.mov(edx, Port.SCRATCH);
      a.in(al, dx);
      a.movFromSystem(rax, cr(4));
      a.or(rax, 8);
      a.movToSystem(cr(4), rax);
      a.in(al, dx);
      a.label("port");
      g.done();
      return () => [a.addressOf("port"), 1];
    },
    needs,
  ),
  program(
    "guards the debug registers with GD, which the handler finds cleared",
    (g) => {
      const { a } = g;
      handler(g);
      a.mov(rax, 0x2400);
      a.movToSystem(dr(7), rax);
      a.label("guarded");
      a.movFromSystem(rax, dr(7));
      g.report(eax);
      g.done();
      return () => [a.addressOf("guarded"), 0x2000, 0x400];
    },
    needs,
  ),
];
