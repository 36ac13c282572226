import type { VmExit } from "@northbridge/core/contracts";
import { type BackendUnderTest, type Feature, GuestBench, type Report, type Trap } from "./bench.ts";
import { GuestProgram } from "./program.ts";

/** One promise of the contract, as a test. */
export interface ConformanceCase {
  readonly name: string;
  /** Needs exact instruction budgets. */
  readonly counts?: boolean;
  readonly needs?: Feature | undefined;
  readonly run: (backend: BackendUnderTest) => Promise<void>;
}

/** What a report should be: a number, or those fields of an exception that matter. */
export type Expected = number | (Partial<Trap> & { readonly vector: number });

const show = (value: unknown): string =>
  JSON.stringify(value, (_key, v: unknown) =>
    typeof v === "number" ? `0x${v.toString(16)}` : typeof v === "bigint" ? `0x${v.toString(16)}n` : v,
  );

/** Throws with both sides where they differ. */
export function expectEqual(actual: unknown, expected: unknown, what: string): void {
  if (show(actual) !== show(expected))
    throw new Error(`${what}: expected ${show(expected)}, found ${show(actual)}`);
}

function agrees(report: Report | undefined, expected: Expected): boolean {
  if (typeof expected === "number" || report === undefined || typeof report === "number")
    return report === (typeof expected === "number" ? expected >>> 0 : expected);
  return Object.entries(expected).every(([key, value]) => report[key as keyof Trap] === value);
}

export function expectReports(
  bench: GuestBench,
  exits: readonly VmExit[],
  expected: readonly Expected[],
): void {
  const same =
    bench.reports.length === expected.length && expected.every((e, i) => agrees(bench.reports[i], e));
  if (!same)
    throw new Error(`expected reports ${show(expected)}, found ${show(bench.reports)}; exits ${show(exits)}`);
}

/**
 * A case made of one program and what it reports. `write` assembles the program and returns the expectation, which
 * may name labels and is therefore asked after assembly.
 */
export function program(
  name: string,
  write: (g: GuestProgram) => readonly Expected[] | (() => readonly Expected[]),
  options: {
    readonly vcpus?: number;
    readonly needs?: Feature;
    readonly prepare?: (bench: GuestBench, g: GuestProgram) => void;
    readonly check?: (bench: GuestBench) => void;
  } = {},
): ConformanceCase {
  return {
    name,
    needs: options.needs,
    async run(backend) {
      const g = new GuestProgram();
      const expected = write(g);
      const bench = await GuestBench.create(backend, options.vcpus ?? 1);
      try {
        bench.load(g);
        options.prepare?.(bench, g);
        const exits = await bench.run();
        expectReports(bench, exits, typeof expected === "function" ? expected() : expected);
        options.check?.(bench);
      } finally {
        await bench.close();
      }
    },
  };
}
