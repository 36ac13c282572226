import type { VcpuState, VmExit } from "@northbridge/core/contracts";
import { at, eax, ebx, ecx, mem, rax, rbx, rcx, rdi, rsi } from "../../asm/index.ts";
import { type BackendUnderTest, GuestBench } from "./bench.ts";
import { type ConformanceCase, expectEqual, program } from "./cases.ts";
import { Gpa, Port } from "./layout.ts";
import { GuestProgram } from "./program.ts";

/** A machine with the program `write` makes, closed afterwards. */
async function withProgram(
  backend: BackendUnderTest,
  write: (g: GuestProgram) => void,
  body: (bench: GuestBench, g: GuestProgram) => Promise<void>,
): Promise<void> {
  const g = new GuestProgram();
  write(g);
  const bench = await GuestBench.create(backend);
  try {
    bench.load(g);
    await body(bench, g);
  } finally {
    await bench.close();
  }
}

/** A bit of everything, without end: arithmetic, flags, strings, calls, faults, code that changes itself. */
function endless(g: GuestProgram): void {
  const { a } = g;
  a.mov(rbx, Gpa.DATA);
  a.mov(rcx, 1);
  a.label("top");
  a.add(rax, 0x1234567);
  a.alu("adc", rcx, rax);
  a.shift("rol", rcx, 5);
  a.mov(at(rbx, 0), rcx);
  a.alu("xor", rax, at(rbx, 4));
  a.push(rcx);
  a.mov(rsi, Gpa.DATA);
  a.mov(rdi, Gpa.DATA + 0x40);
  a.mov(rcx, 7);
  a.rep();
  a.string("movs", 64);
  a.pop(rcx);
  a.call("leaf");
  a.unary("imul", ecx);
  a.op("int3");
  a.lea(rdi, mem({ label: "patched" }));
  a.inc(at(rdi, 2, 8));
  a.label("patched");
  a.mov({ ...eax, number: 9 }, 5);
  a.bytes(0xb2, 0);
  a.j("s", "top");
  a.jmp("top");
  a.label("leaf");
  a.op("pushf");
  a.pop({ ...rax, number: 8 });
  a.add(rax, { ...rax, number: 8 });
  a.op("ret");
  g.gate(3, { label: "breakpoint" });
  a.label("breakpoint");
  a.inc({ ...rax, number: 10 });
  a.op("iretq");
}

/** Everything of a state that a program can change. */
const visible = (state: VcpuState): unknown => ({
  regs: state.regs,
  sregs: state.sregs,
  fxsave: state.fxsave,
  mpState: state.mpState,
});

function hashRam(bench: GuestBench): number {
  let hash = 0x811c9dc5;
  for (const byte of bench.ram.bytes.subarray(0, Gpa.PAGES)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

async function count(bench: GuestBench, instructions: number): Promise<VmExit> {
  const exit = await bench.vcpu().run({ instructions });
  expectEqual(exit.kind, "budget", "exit of a run with a budget");
  return exit;
}

export const runControlCases: readonly ConformanceCase[] = [
  {
    name: "executes exactly the budget: pieces of any size add up to one run",
    counts: true,
    async run(backend) {
      const total = 3000;
      const results: unknown[] = [];
      for (const piece of [total, 1, 7, 100, 999]) {
        await withProgram(backend, endless, async (bench) => {
          for (let left = total; left > 0; left -= piece) await count(bench, Math.min(left, piece));
          results.push([visible(bench.vcpu().getState()), hashRam(bench)]);
        });
      }
      results.forEach((result, i) => {
        expectEqual(result, results[0], `state after pieces, variant ${i.toString()}`);
      });
    },
  },
  {
    name: "goes on from a saved state at any instruction, in the same and in another machine",
    counts: true,
    async run(backend) {
      const total = 400;
      const results: unknown[] = [];
      await withProgram(backend, endless, async (bench) => {
        await count(bench, total);
        results.push([visible(bench.vcpu().getState()), hashRam(bench)]);
      });
      await withProgram(backend, endless, async (bench) => {
        const blank = bench.vcpu().getState();
        for (let i = 0; i < total; i++) {
          await count(bench, 1);
          const state = bench.vcpu().getState();
          bench.vcpu().setState(blank);
          bench.vcpu().setState(state);
          expectEqual(
            visible(bench.vcpu().getState()),
            visible(state),
            `state set after ${i.toString()} instructions`,
          );
        }
        results.push([visible(bench.vcpu().getState()), hashRam(bench)]);
      });
      await withProgram(backend, endless, async (first) => {
        await count(first, 150);
        await withProgram(backend, endless, async (second) => {
          second.ram.bytes.set(first.ram.bytes);
          second.vm.memoryWritten(0, Gpa.RAM);
          second.vcpu().setState(first.vcpu().getState());
          await count(second, total - 150);
          results.push([visible(second.vcpu().getState()), hashRam(second)]);
        });
      });
      expectEqual(results[1], results[0], "state after a save and restore at each instruction");
      expectEqual(results[2], results[0], "state after moving to another machine");
    },
  },
  {
    name: "single-steps: one debug exit an instruction, with RIP of the next",
    async run(backend) {
      await withProgram(
        backend,
        (g) => {
          g.a.label("one");
          g.a.mov(ebx, 1);
          g.a.label("two");
          g.a.jmp("four");
          g.a.label("three");
          g.a.op("ud2");
          g.a.label("four");
          g.a.inc(ebx);
          g.a.label("five");
          g.done();
        },
        async (bench, g) => {
          const vcpu = bench.vcpu();
          vcpu.setState({
            ...vcpu.getState(),
            regs: { ...vcpu.getState().regs, rip: BigInt(g.a.addressOf("one")) },
          });
          vcpu.setDebug({ singleStep: true });
          for (const label of ["two", "four", "five"]) {
            expectEqual(
              await vcpu.run(),
              { kind: "debug", rip: BigInt(g.a.addressOf(label)) },
              `step to ${label}`,
            );
          }
          vcpu.setDebug(undefined);
          await bench.run();
          expectEqual(bench.finished, true, "the program ran on");
        },
      );
    },
  },
  {
    name: "stops at breakpoints before their instruction, and goes on from them",
    async run(backend) {
      await withProgram(
        backend,
        (g) => {
          g.a.mov(ebx, 0);
          g.a.label("loop");
          g.a.inc(ebx);
          g.a.cmp(ebx, 3);
          g.a.j("b", "loop");
          g.report(ebx);
          g.done();
        },
        async (bench, g) => {
          const vcpu = bench.vcpu();
          const rip = BigInt(g.a.addressOf("loop"));
          vcpu.setDebug({ breakpoints: [rip] });
          for (let i = 0; i < 3; i++) {
            expectEqual(await vcpu.run({ instructions: 1000 }), { kind: "debug", rip }, "exit");
            expectEqual(vcpu.getState().regs.rbx, BigInt(i), "RBX at the breakpoint");
          }
          vcpu.setDebug(undefined);
          await bench.run();
          expectEqual(bench.reports, [3], "reports");
        },
      );
    },
  },
  {
    name: "takes a breakpoint while it runs",
    async run(backend) {
      await withProgram(
        backend,
        (g) => {
          g.a.label("loop");
          g.a.mov(eax, 1);
          g.a.out(Port.ACTION, eax);
          g.a.label("there");
          g.a.inc(ebx);
          g.a.jmp("loop");
        },
        async (bench, g) => {
          const vcpu = bench.vcpu();
          const rip = BigInt(g.a.addressOf("there"));
          let accesses = 0;
          bench.actions.set(1, () => {
            accesses++;
            if (accesses === 3) vcpu.setDebug({ breakpoints: [rip] });
          });
          for (let i = 0; i < 3; i++) expectEqual(await vcpu.run(), { kind: "debug", rip }, "exit");
          expectEqual(accesses >= 5, true, "the breakpoint came behind the third access");
          const until = accesses + 3;
          bench.actions.set(1, () => {
            if (++accesses === until) vcpu.kick();
          });
          vcpu.setDebug(undefined);
          expectEqual((await vcpu.run()).kind, "interrupted", "the last exit");
        },
      );
    },
  },
  {
    name: "ends the next run, or the pending one, when kicked",
    async run(backend) {
      await withProgram(
        backend,
        (g) => {
          g.a.label("spin");
          g.a.jmp("spin");
        },
        async (bench) => {
          const vcpu = bench.vcpu();
          vcpu.kick();
          expectEqual((await vcpu.run()).kind, "interrupted", "run after a kick");
          const pending = vcpu.run();
          vcpu.kick();
          expectEqual((await pending).kind, "interrupted", "kicked run");
        },
      );
    },
  },
  {
    name: "reports HLT with interrupts off as a halt",
    async run(backend) {
      await withProgram(
        backend,
        (g) => {
          g.a.op("cli");
          g.a.op("hlt");
        },
        async (bench) => {
          expectEqual((await bench.vcpu().run()).kind, "halt", "exit");
        },
      );
    },
  },
  {
    name: "reports a triple fault as a shutdown",
    async run(backend) {
      await withProgram(
        backend,
        (g) => {
          g.a.table("lidt", mem({ label: "nothing" }));
          g.a.op("ud2");
          g.a.label("nothing");
          g.a.bytes(0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        },
        async (bench) => {
          expectEqual((await bench.vcpu().run({ instructions: 1000 })).kind, "shutdown", "exit");
        },
      );
    },
  },
  {
    name: "ends at the budget where handlers fault at their first instruction",
    counts: true,
    async run(backend) {
      await withProgram(
        backend,
        (g) => {
          g.a.label("undefined");
          g.a.op("ud2");
          g.gate(6, { label: "undefined", ist: 1 });
        },
        async (bench) => {
          expectEqual((await bench.vcpu().run({ instructions: 1000 })).kind, "budget", "exit");
        },
      );
    },
  },
  {
    name: "survives garbage and wild jumps",
    counts: true,
    async run(backend) {
      let seed = 12345;
      const random = (): number => {
        seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
        return seed >>> 8;
      };
      for (let round = 0; round < 40; round++) {
        await withProgram(
          backend,
          (g) => {
            g.a.mov(rbx, Gpa.DATA);
            for (let i = 0; i < 2000; i++) g.a.bytes(random() & 0xff);
          },
          async (bench) => {
            const exit = await bench.vcpu().run({ instructions: 20000 });
            const kinds = ["budget", "halt", "shutdown", "error", "interrupted", "debug"];
            expectEqual(kinds.includes(exit.kind), true, `exit of round ${round.toString()}`);
            if (exit.kind === "error")
              expectEqual((exit.instructionBytes?.length ?? 0) > 0, true, `bytes named by: ${exit.detail}`);
          },
        );
      }
    },
  },
  program(
    "reports which pages the guest dirtied",
    (g) => {
      const { a } = g;
      a.mov(rbx, Gpa.PAGES);
      a.mov(at(rbx), rax);
      a.mov(at(rbx, 0x4ffe), rax);
      g.done();
      return [];
    },
    {
      prepare: (bench) => {
        bench.vm.dirtyLog.enable();
        bench.vm.dirtyLog.harvest();
      },
      check: (bench) => {
        const pages = bench.vm.dirtyLog.harvest().filter((page) => page >= Gpa.PAGES / 4096);
        expectEqual(pages, [0x200, 0x204, 0x205], "dirty pages");
        expectEqual(bench.vm.dirtyLog.harvest(), [], "second harvest");
      },
    },
  ),
];
