import { al, at, ax, dx, eax, ecx, edx, rax, rbx, rcx, rdi, rsi } from "../../asm/index.ts";
import { type ConformanceCase, expectEqual, program } from "./cases.ts";
import { Gpa, Port, TEST_MMIO } from "./layout.ts";

const read = (offset: number, width: number, value: number) => ({ kind: "read", offset, width, value });
const write = (offset: number, width: number, value: number) => ({ kind: "write", offset, width, value });

export const ioCases: readonly ConformanceCase[] = [
  program(
    "carries MMIO of every width, 64 bits as two halves, low first",
    (g) => {
      const { a } = g;
      a.mov(rbx, TEST_MMIO);
      a.mov(rax, 0x1122334455667788n);
      a.mov(at(rbx, 0), al);
      a.mov(at(rbx, 2), ax);
      a.mov(at(rbx, 4), eax);
      a.mov(at(rbx, 8), rax);
      a.mov(rax, 0);
      a.mov(al, at(rbx, 0x10));
      g.report(eax);
      a.mov(ax, at(rbx, 0x12));
      g.report(eax);
      a.mov(eax, at(rbx, 0x14));
      g.report(eax);
      a.mov(rax, at(rbx, 0x18));
      g.report64(rax);
      g.done();
      return [0xa1, 0xb1b2, 0xc1c2c3c4, 0xd1d2d3d4, 0xe1e2e3e4];
    },
    {
      prepare: (bench) => {
        for (const [offset, value] of [
          [0x10, 0xa1],
          [0x12, 0xb1b2],
          [0x14, 0xc1c2c3c4],
          [0x18, 0xd1d2d3d4],
          [0x1c, 0xe1e2e3e4],
        ] as const)
          bench.answers.set(offset, value);
      },
      check: (bench) => {
        expectEqual(
          bench.mmio.filter((access) => access.kind === "write"),
          [
            write(0, 1, 0x88),
            write(2, 2, 0x7788),
            write(4, 4, 0x55667788),
            write(8, 4, 0x55667788),
            write(12, 4, 0x11223344),
          ],
          "MMIO writes",
        );
      },
    },
  ),
  program(
    "reads once and writes once for a read-modify-write of MMIO",
    (g) => {
      const { a } = g;
      a.mov(rbx, TEST_MMIO);
      a.add(at(rbx, 0, 32), 5);
      a.mov(eax, 7);
      a.exchange("xchg", at(rbx, 4), eax);
      g.report(eax);
      a.inc(at(rbx, 8, 8));
      a.cmp(at(rbx, 12, 16), 3);
      g.done();
      return [200];
    },
    {
      prepare: (bench) => {
        for (const [offset, value] of [
          [0, 100],
          [4, 200],
          [8, 0xff],
          [12, 3],
        ] as const)
          bench.answers.set(offset, value);
      },
      check: (bench) => {
        expectEqual(
          bench.mmio,
          [
            read(0, 4, 100),
            write(0, 4, 105),
            read(4, 4, 200),
            write(4, 4, 7),
            read(8, 1, 0xff),
            write(8, 1, 0),
            read(12, 2, 3),
          ],
          "MMIO accesses",
        );
      },
    },
  ),
  program(
    "copies between RAM and MMIO by string instructions, PUSH and POP",
    (g) => {
      const { a } = g;
      g.memory.set(Gpa.DATA, Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0));
      a.mov(rsi, Gpa.DATA);
      a.mov(rdi, TEST_MMIO);
      a.mov(rcx, 2);
      a.rep();
      a.string("movs", 32);
      a.mov(rsi, TEST_MMIO + 16);
      a.mov(rdi, Gpa.DATA + 16);
      a.mov(rcx, 2);
      a.rep();
      a.string("movs", 16);
      a.mov(rbx, Gpa.DATA + 16);
      a.mov(eax, at(rbx));
      g.report(eax);
      a.mov(rdi, TEST_MMIO + 32);
      a.mov(eax, 0x55);
      a.mov(rcx, 3);
      a.rep();
      a.string("stos", 8);
      a.mov(rbx, TEST_MMIO + 48);
      a.push(at(rbx));
      a.pop(rax);
      g.report64(rax);
      g.done();
      return [0x22221111, 0x30, 0x34];
    },
    {
      prepare: (bench) => {
        for (const [offset, value] of [
          [16, 0x1111],
          [18, 0x2222],
          [48, 0x30],
          [52, 0x34],
        ] as const)
          bench.answers.set(offset, value);
      },
      check: (bench) => {
        expectEqual(bench.mmio.slice(0, 2), [write(0, 4, 1), write(4, 4, 2)], "REP MOVSD to MMIO");
        expectEqual(
          bench.mmio.slice(4, 7),
          [write(32, 1, 0x55), write(33, 1, 0x55), write(34, 1, 0x55)],
          "REP STOSB to MMIO",
        );
      },
    },
  ),
  program("answers reads of nothing with ones and loses writes to it", (g) => {
    const { a } = g;
    a.mov(rbx, 0xc0000000);
    a.mov(at(rbx), rax);
    a.mov(rax, at(rbx));
    g.report64(rax);
    g.done();
    return [0xffffffff, 0xffffffff];
  }),
  program(
    "carries port accesses of every width",
    (g) => {
      const { a } = g;
      a.mov(edx, Port.SCRATCH);
      a.mov(eax, 0x11223344);
      a.out(dx, al);
      a.out(dx, ax);
      a.out(dx, eax);
      a.mov(rax, -1);
      a.in(al, dx);
      g.report64(rax);
      a.in(ax, dx);
      g.report64(rax);
      a.in(eax, dx);
      g.report64(rax);
      g.done();
      return [0xffffff5a, 0xffffffff, 0xffff005a, 0xffffffff, 0x5a, 0];
    },
    {
      prepare: (bench) => bench.answers.set(0, 0x5a),
      check: (bench) => {
        expectEqual(
          bench.ports.slice(0, 3),
          [write(0, 1, 0x44), write(0, 2, 0x3344), write(0, 4, 0x11223344)],
          "port writes",
        );
      },
    },
  ),
  program(
    "moves strings through a port",
    (g) => {
      const { a } = g;
      g.memory.set(Gpa.DATA, Uint8Array.of(1, 2, 3, 4, 5, 6));
      a.mov(edx, Port.SCRATCH + 4);
      a.mov(rsi, Gpa.DATA);
      a.mov(rcx, 3);
      a.rep();
      a.string("outs", 16);
      g.report(ecx);
      g.report(rsi);
      a.mov(rdi, Gpa.DATA + 0x20);
      a.mov(rcx, 2);
      a.rep();
      a.string("ins", 32);
      g.report(rdi);
      a.mov(rbx, Gpa.DATA + 0x24);
      a.mov(eax, at(rbx));
      g.report(eax);
      g.done();
      return [0, Gpa.DATA + 6, Gpa.DATA + 0x28, 0xcafe];
    },
    {
      prepare: (bench) => bench.answers.set(4, 0xcafe),
      check: (bench) => {
        expectEqual(
          bench.ports,
          [
            write(4, 2, 0x0201),
            write(4, 2, 0x0403),
            write(4, 2, 0x0605),
            read(4, 4, 0xcafe),
            read(4, 4, 0xcafe),
          ],
          "port accesses",
        );
      },
    },
  ),
  program(
    "drops writes to read-only memory",
    (g) => {
      const { a } = g;
      a.mov(rbx, 0x1000000);
      a.mov(at(rbx, 0, 32), 5);
      a.mov(eax, at(rbx));
      g.report(eax);
      g.done();
      return [0x50];
    },
    {
      prepare: (bench) => {
        const rom = bench.vm.addMemory({ name: "rom", gpa: 0x1000000, length: 0x1000, readOnly: true });
        rom.bytes[0] = 0x50;
      },
    },
  ),
];
