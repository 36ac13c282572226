import { RealtimeClock, VirtualClock } from "@northbridge/core";
import type { VmExit } from "@northbridge/sdk";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EXIT_BUDGET, EXIT_HALT, EXIT_KICK, EXIT_PAUSE, EXIT_SHUTDOWN } from "../cpu/layout.ts";
import { type Processor, Scheduler, type SchedulerHost } from "./scheduler.ts";

/** One instruction of a scripted processor. `nop` runs on, `dead` halts for good. */
type Instruction = "nop" | "pause" | "halt" | "dead" | "shutdown" | (() => void);

/** Executes a script, then `nop` for ever. */
class FakeProcessor implements Processor {
  readonly index: number;
  readonly script: Instruction[];
  readonly trace: string[];
  instructions = 0;
  rip = 0n;
  isHalted = false;
  isInterruptible = true;
  hasInterrupt = false;
  failure: string | undefined;
  #mustEnd = false;

  constructor(index: number, script: Instruction[], trace: string[] = []) {
    this.index = index;
    this.script = script;
    this.trace = trace;
  }

  get isRunnable(): boolean {
    return !this.isHalted || (this.hasInterrupt && this.isInterruptible);
  }

  get canBeWoken(): boolean {
    return this.isInterruptible;
  }

  service(): void {
    this.#mustEnd = false;
  }

  execute(budget: number): number {
    this.isHalted = false;
    this.hasInterrupt = false;
    const start = this.instructions;
    this.#mustEnd = false;
    while (this.instructions - start < budget) {
      const instruction = this.script[this.instructions] ?? "nop";
      this.instructions++;
      this.rip++;
      if (typeof instruction === "function") instruction();
      else if (instruction === "halt" || instruction === "dead") {
        this.isHalted = true;
        this.isInterruptible = instruction === "halt";
        this.#log(start);
        return EXIT_HALT;
      } else if (instruction === "pause") {
        this.#log(start);
        return EXIT_PAUSE;
      } else if (instruction === "shutdown") return EXIT_SHUTDOWN;
      if (this.#mustEnd) {
        this.#log(start);
        return EXIT_KICK;
      }
    }
    this.#log(start);
    return EXIT_BUDGET;
  }

  #log(start: number): void {
    this.trace.push(`${this.index}:${this.instructions - start}`);
  }

  endSlice(): void {
    this.#mustEnd = true;
  }

  takeFailure(): string | undefined {
    const { failure } = this;
    this.failure = undefined;
    return failure;
  }

  exitOf(code: number): VmExit {
    return { kind: "shutdown", detail: `code ${code}` };
  }
}

/** A host whose time passes only by what it is told, and whose events run when asked. */
function fakeHost() {
  let now = 0;
  const events: (() => void)[] = [];
  const sleeps: number[] = [];
  const host: SchedulerHost = {
    nowMs: () => now,
    soon: (fn) => {
      events.push(fn);
    },
    after: (ms, fn) => {
      sleeps.push(ms);
      events.push(fn);
      return () => {
        const at = events.indexOf(fn);
        if (at >= 0) events.splice(at, 1);
      };
    },
  };
  /** Runs host events until there are none or the promise settles. */
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 10_000 && events.length > 0; turn++) {
      now += 1;
      events.shift()?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { host, settle, sleeps };
}

function setup(...scripts: Instruction[][]) {
  const trace: string[] = [];
  const processors = scripts.map((script, index) => new FakeProcessor(index, script, trace));
  const clock = new VirtualClock();
  const { host, settle, sleeps } = fakeHost();
  const scheduler = new Scheduler({ processors, clock, host });
  return { processors, clock, scheduler, settle, sleeps, trace };
}

const nops = (count: number): Instruction[] => Array<Instruction>(count).fill("nop");

describe("Scheduler", () => {
  it("ends a run after exactly the instructions asked for", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 300_000 }),
        fc.integer({ min: 1, max: 300_000 }),
        async (first, second) => {
          const { processors, scheduler, settle, clock } = setup([]);
          const run = scheduler.run(0, { instructions: first });
          await settle();
          expect(await run).toEqual({ kind: "budget" });
          expect(processors[0]?.instructions).toBe(first);
          const again = scheduler.run(0, { instructions: second });
          await settle();
          expect(await again).toEqual({ kind: "budget" });
          expect(scheduler.executed).toBe(first + second);
          expect(clock.nowNs()).toBe(first + second);
        },
      ),
      { numRuns: 30 },
    );
  });

  it("fires a timer at its very instruction", async () => {
    const { processors, scheduler, settle, clock } = setup([]);
    const seen: number[] = [];
    const timer = clock.createTimer(() => {
      seen.push(processors[0]?.instructions ?? -1);
      if (seen.length < 3) timer.arm(clock.nowNs() + 777);
    });
    timer.arm(1_234);
    const run = scheduler.run(0, { instructions: 100_000 });
    await settle();
    await run;
    expect(seen).toEqual([1_234, 2_011, 2_788]);
  });

  it("shortens the slice for a timer armed inside it", async () => {
    let arm = (): void => undefined;
    const { processors, scheduler, settle, clock } = setup([...nops(10), () => arm()]);
    let firedAt = -1;
    const timer = clock.createTimer(() => {
      firedAt = processors[0]?.instructions ?? -1;
    });
    arm = () => timer.arm(clock.nowNs() + 50);
    const run = scheduler.run(0, { instructions: 1_000 });
    await settle();
    await run;
    expect(firedAt).toBe(11 + 50);
  });

  it("skips to the next timer while every processor halts, without executing", async () => {
    const { processors, scheduler, settle, clock } = setup([...nops(4), "halt"]);
    const timer = clock.createTimer(() => {
      processors[0]!.hasInterrupt = true;
    });
    timer.arm(5_000_000);
    const run = scheduler.run(0, { instructions: 20 });
    await settle();
    await run;
    expect(clock.nowNs()).toBe(5_000_000 + 15);
    expect(scheduler.executed).toBe(20);
  });

  it("shares time in equal turns, and a halt or a pause gives the turn up", async () => {
    const { scheduler, settle, trace } = setup([], ["pause", "pause"], ["dead"]);
    const runs = [0, 1, 2].map((index) => scheduler.run(index, { instructions: 20_002 }));
    await settle();
    expect(await Promise.all(runs.slice(0, 2))).toEqual([{ kind: "budget" }, { kind: "budget" }]);
    expect(trace).toEqual(["0:10000", "1:1", "2:1", "0:10000", "1:1", "0:2", "1:20000"]);
  });

  it("lets a processor that is alone spin on, to the instruction", async () => {
    const { processors, scheduler, settle, clock } = setup(Array<Instruction>(500).fill("pause"));
    let firedAt = -1;
    clock
      .createTimer(() => {
        firedAt = processors[0]?.instructions ?? -1;
      })
      .arm(123);
    const run = scheduler.run(0, { instructions: 321 });
    await settle();
    expect(await run).toEqual({ kind: "budget" });
    expect(processors[0]?.instructions).toBe(321);
    expect(firedAt).toBe(123);
    expect(scheduler.counts.slices).toBe(2);
  });

  it("answers halt only once nobody is left to wake a halted processor", async () => {
    const { scheduler, settle } = setup([...nops(30_000), "dead"], ["dead"]);
    const runs = [scheduler.run(0), scheduler.run(1)];
    await settle();
    expect(await Promise.all(runs)).toEqual([{ kind: "halt" }, { kind: "halt" }]);
    expect(scheduler.executed).toBe(30_002);
  });

  it("makes a pending or the next run end with interrupted", async () => {
    const { scheduler, settle } = setup(["halt"]);
    scheduler.kick(0);
    expect(await scheduler.run(0)).toEqual({ kind: "interrupted" });
    const run = scheduler.run(0);
    await settle();
    scheduler.kick(0);
    expect(await run).toEqual({ kind: "interrupted" });
  });

  it("stops at the next instruction when kicked from inside an access", async () => {
    let kick = (): void => undefined;
    const { processors, scheduler, settle } = setup([...nops(7), () => kick()]);
    kick = () => {
      scheduler.kick(0);
    };
    const run = scheduler.run(0);
    await settle();
    expect(await run).toEqual({ kind: "interrupted" });
    expect(processors[0]?.instructions).toBe(8);
  });

  it("ends a run with the failure of a device, naming it", async () => {
    const { processors, scheduler, settle } = setup([
      "nop",
      () => {
        processors[0]!.failure = "read of port 0x60: boom";
        processors[0]!.endSlice();
      },
    ]);
    const run = scheduler.run(0);
    await settle();
    expect(await run).toEqual({ kind: "error", detail: "read of port 0x60: boom", rip: 2n });
  });

  it("ends only the run of a processor that shuts down", async () => {
    const { scheduler, settle } = setup(["shutdown"], []);
    const first = scheduler.run(0);
    const second = scheduler.run(1, { instructions: 50_000 });
    await settle();
    expect(await first).toEqual({ kind: "shutdown", detail: `code ${EXIT_SHUTDOWN}` });
    expect(await second).toEqual({ kind: "budget" });
  });

  it("steps one instruction at a time, and stops at breakpoints", async () => {
    const { scheduler, settle } = setup([]);
    scheduler.setDebug(0, { singleStep: true, breakpoints: new Set() });
    const step = scheduler.run(0);
    await settle();
    expect(await step).toEqual({ kind: "debug", rip: 1n });
    scheduler.setDebug(0, { singleStep: false, breakpoints: new Set([40n]) });
    const run = scheduler.run(0);
    await settle();
    expect(await run).toEqual({ kind: "debug", rip: 40n });
  });

  it("refuses a second run of one processor", async () => {
    const { scheduler } = setup([]);
    void scheduler.run(0);
    await expect(scheduler.run(0)).rejects.toMatchObject({ code: "NB_BACKEND" });
  });

  it("interleaves processors alike however often the host interrupts", async () => {
    const script = fc.array(fc.constantFrom<Instruction>("nop", "nop", "nop", "pause"), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(
        script,
        script,
        fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 12 }),
        async (a, b, stops) => {
          const order = async (cuts: readonly number[]): Promise<string[]> => {
            const log: string[] = [];
            const logged = (name: string, from: readonly Instruction[]): Instruction[] =>
              from.map((instruction, at) =>
                instruction === "pause" ? "pause" : () => void log.push(`${name}${at}`),
              );
            const { scheduler, settle } = setup(logged("a", a), logged("b", b));
            const other = scheduler.run(1, { instructions: b.length + 1 });
            const drive = async (): Promise<void> => {
              for (const cut of cuts) await scheduler.run(0, { instructions: cut });
              await scheduler.run(0, { instructions: 40 * 12 + a.length });
            };
            const driven = drive();
            await settle();
            await Promise.all([driven, other]);
            return log;
          };
          expect(await order(stops)).toEqual(await order([]));
        },
      ),
      { numRuns: 50 },
    );
  });

  it("sleeps until the next deadline under realtime, and not past an interrupt", async () => {
    let now = 0;
    const clock = new RealtimeClock({ nowNs: () => now, wallMs: () => 0 });
    clock.resume();
    const { host, settle, sleeps } = fakeHost();
    const processor = new FakeProcessor(0, ["halt", "halt"]);
    const scheduler = new Scheduler({ processors: [processor], clock, host });
    const timer = clock.createTimer(() => {
      processor.hasInterrupt = true;
    });
    timer.arm(7_900_000);
    const original = host.after;
    host.after = (ms, fn) => {
      now += 8_000_000;
      return original(ms, fn);
    };
    const run = scheduler.run(0, { instructions: 3 });
    await settle();
    expect(sleeps[0]).toBe(7);
    expect(processor.instructions).toBe(2);
    processor.hasInterrupt = true;
    scheduler.wake();
    await settle();
    expect(await run).toEqual({ kind: "budget" });
  });
});
