import type { TestBench } from "../bench/test-bench.ts";

interface MatcherResult {
  readonly pass: boolean;
  readonly message: () => string;
  readonly expected?: unknown;
  readonly actual?: unknown;
}

/** Which interrupt is expected: any, a rising edge of a GSI, or a message with that data. */
export type ExpectedInterrupt = { readonly gsi: number } | { readonly msi: number };

/** What `expect(bench)` can say, behind `expect.extend(deviceMatchers)`. */
export interface DeviceMatchers<R = unknown> {
  /** The device raises an interrupt while `when` runs. */
  toRaiseInterrupt(when: () => void, expected?: ExpectedInterrupt): R;
  /** The device writes guest memory while `when` runs, so that `bytes` stand at `gpa` afterwards. */
  toWriteGuestMemory(when: () => void, gpa: number, bytes: readonly number[] | Uint8Array): R;
  /** Exactly these lines cross the device's edge while `when` runs: see `TestBench.trace`. */
  toMatchTrace(when: () => void, lines: readonly string[]): R;
}

/**
 * Matchers for devices on a {@link TestBench}.
 *
 * @example
 * ```ts
 * import { deviceMatchers } from "@northbridge/sdk/vitest";
 * expect.extend(deviceMatchers);
 * expect(bench).toRaiseInterrupt(() => bench.regs.CTRL.write({ START: 1 }), { gsi: 5 });
 * ```
 */
export const deviceMatchers: {
  toRaiseInterrupt(bench: TestBench, when: () => void, expected?: ExpectedInterrupt): MatcherResult;
  toWriteGuestMemory(
    bench: TestBench,
    when: () => void,
    gpa: number,
    bytes: readonly number[] | Uint8Array,
  ): MatcherResult;
  toMatchTrace(bench: TestBench, when: () => void, lines: readonly string[]): MatcherResult;
} = {
  toRaiseInterrupt(bench, when, expected) {
    const raised = bench
      .record(when)
      .flatMap((event): readonly ExpectedInterrupt[] =>
        event.kind === "irq" && event.level
          ? [{ gsi: event.gsi }]
          : event.kind === "msi"
            ? [{ msi: event.data }]
            : [],
      );
    const wanted = expected === undefined ? "an interrupt" : JSON.stringify(expected);
    return {
      pass: raised.some((one) => expected === undefined || JSON.stringify(one) === JSON.stringify(expected)),
      message: () =>
        `expected ${wanted}; raised: ${raised.map((one) => JSON.stringify(one)).join(", ") || "none"}`,
    };
  },
  toWriteGuestMemory(bench, when, gpa, bytes) {
    const wanted = Uint8Array.from(bytes);
    const written = bench.record(when).flatMap((event) => (event.kind === "dma" ? [event] : []));
    const found = bench.memory.bytes.subarray(gpa, gpa + wanted.length);
    const isSame = found.length === wanted.length && wanted.every((byte, index) => byte === found[index]);
    const isByDevice = written.some(
      (range) => range.gpa < gpa + wanted.length && gpa < range.gpa + range.length,
    );
    const ranges =
      written.map((range) => `0x${range.gpa.toString(16)} +${range.length}`).join(", ") || "nothing";
    return {
      pass: isSame && isByDevice,
      message: () => `at 0x${gpa.toString(16)}; the device wrote ${ranges}`,
      expected: [...wanted],
      actual: [...found],
    };
  },
  toMatchTrace(bench, when, lines) {
    const found = bench.trace(when);
    return {
      pass: found.length === lines.length && found.every((line, index) => line === lines[index]),
      message: () => "the trace differs",
      expected: lines,
      actual: found,
    };
  },
};

declare module "vitest" {
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type -- declaration merging
  interface Matchers<
    R extends void | Promise<void> = void | Promise<void>,
    // eslint-disable-next-line @typescript-eslint/no-unused-vars -- merged declarations have the same parameters
    T = unknown,
  > extends DeviceMatchers<R> {}
}
