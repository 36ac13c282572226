import type { TestBench } from "../bench/test-bench.ts";
import type { RegisterSpecs } from "../registers/declaration.ts";
import type { Step } from "./program.ts";

/** One operation, done to a bench: an access, memory contents. */
export type Operation<R extends RegisterSpecs = RegisterSpecs> = (bench: TestBench<R>) => unknown;

/** In one stretch of time, which ends early for a device that wants more: else one with a short period takes all the time. */
export const MOST_TIMERS = 200;

/** What a step of a program does to a bench. */
export function operationOf(step: Step): Operation {
  switch (step.op) {
    case "read":
      return (bench) => bench[step.space].read(step.address, step.width);
    case "write":
      return (bench) => {
        bench[step.space].write(step.address, step.width, step.value);
      };
    case "advance":
      return ({ clock }) => {
        const untilNs = clock.nowNs() + step.ns;
        for (let turn = 0; clock.nextDeadlineNs() <= untilNs; turn++) {
          if (turn === MOST_TIMERS) return;
          clock.advanceTo(clock.nextDeadlineNs());
        }
        clock.advanceTo(untilNs);
      };
    case "timer":
      return ({ clock }) => {
        const next = clock.nextDeadlineNs();
        if (Number.isFinite(next)) clock.advanceTo(next);
      };
    case "memory":
      return ({ memory }) => {
        memory.bytes.set(step.bytes, step.gpa);
      };
  }
}
