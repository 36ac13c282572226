import type { BackendUnderTest } from "./bench.ts";
import type { ConformanceCase } from "./cases.ts";
import { breakpointCases } from "./breakpoints.ts";
import { exceptionCases } from "./exceptions.ts";
import { interruptCases } from "./interrupts.ts";
import { ioCases } from "./io.ts";
import { modeCases } from "./modes.ts";
import { pagingCases } from "./paging.ts";
import { registerCases } from "./registers.ts";
import { runControlCases } from "./run-control.ts";
import { segmentCases } from "./segments.ts";
import { selfModifyingCases } from "./self-modifying.ts";
import { singleStepCases } from "./single-step.ts";
import { smpCases } from "./smp.ts";
import { systemCallCases } from "./system-calls.ts";

export type { BackendUnderTest, Feature } from "./bench.ts";
export { GuestBench } from "./bench.ts";
export { Gpa, PTE, Selector, WINDOW } from "./layout.ts";
export { GuestProgram } from "./program.ts";

/** A test framework's two words. */
export interface ConformanceHooks {
  describe(name: string, body: () => void): void;
  it(name: string, body: () => Promise<void>): void;
}

const GROUPS: readonly (readonly [string, readonly ConformanceCase[]])[] = [
  ["paging", pagingCases],
  ["exceptions", exceptionCases],
  ["segments", segmentCases],
  ["breakpoints", breakpointCases],
  ["single steps", singleStepCases],
  ["interrupts", interruptCases],
  ["system calls", systemCallCases],
  ["registers", registerCases],
  ["processor modes", modeCases],
  ["self-modifying code", selfModifyingCases],
  ["memory-mapped and port I/O", ioCases],
  ["several processors", smpCases],
  ["run control", runControlCases],
];

/**
 * Declares the tests that every `Hypervisor` passes: bare-metal programs that judge paging, exceptions, interrupts,
 * modes, self-modifying code, I/O, SMP and the run loop against the architecture (Intel SDM 3A, AMD APM 2).
 *
 * @example
 * ```ts
 * import { describe, it } from "vitest";
 * hypervisorConformance({ describe, it }, { createHypervisor: softHypervisor, createClock: () => new VirtualClock() });
 * ```
 */
export function hypervisorConformance(hooks: ConformanceHooks, backend: BackendUnderTest): void {
  for (const [group, cases] of GROUPS) {
    hooks.describe(group, () => {
      for (const { name, counts, needs, run } of cases) {
        if (counts === true && backend.countsInstructions === false) continue;
        if (needs !== undefined && backend.lacks?.includes(needs) === true) continue;
        hooks.it(name, () => run(backend));
      }
    });
  }
}
