import { describeOffset } from "../registers/describe-access.ts";
import type { Experiment, Judge } from "./judges.ts";
import type { Place, Step } from "./program.ts";
import type { DeviceUnderTest } from "./run-program.ts";

/** The shortest program found that breaks a law. */
export interface Counterexample {
  readonly judge: Judge;
  readonly program: readonly Step[];
  readonly experiment: Experiment;
  readonly message: string;
  readonly seed: number;
}

/**
 * The same failure by a shorter program: steps that can go go, values become simpler. Shrinking as fast-check does it
 * stops early where the place of the cut moves with the program's length.
 */
export async function minimise(device: DeviceUnderTest, found: Counterexample): Promise<Counterexample> {
  let best = found;
  const tryThis = async (program: readonly Step[], cut: number): Promise<boolean> => {
    try {
      await found.judge.judge(device, program, { ...best.experiment, cut });
      return false;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      best = { ...best, program, experiment: { ...best.experiment, cut }, message };
      return true;
    }
  };
  for (let wasShortened = true; wasShortened; ) {
    wasShortened = false;
    for (let at = best.program.length - 1; at >= 0; at--) {
      const cut = best.experiment.cut % (best.program.length + 1);
      const without = best.program.filter((_, index) => index !== at);
      if (await tryThis(without, at < cut ? cut - 1 : Math.min(cut, without.length))) wasShortened = true;
    }
  }
  for (const [at, step] of best.program.entries()) {
    for (const simpler of simplerSteps(step)) {
      const cut = best.experiment.cut % (best.program.length + 1);
      if (await tryThis(best.program.with(at, simpler), cut)) break;
    }
  }
  return best;
}

function simplerSteps(step: Step): readonly Step[] {
  if (step.op === "write") {
    return [0, 1, 2, 3, step.value & 0xff, step.value & 0xffff]
      .filter((value) => value < step.value)
      .map((value) => ({ ...step, value }));
  }
  if (step.op === "advance")
    return [
      { op: "timer" },
      ...[1, 1000, 1_000_000].filter((ns) => ns < step.ns).map((ns) => ({ ...step, ns })),
    ];
  return [];
}

/** The counterexample as a test that can be pasted. */
export function asTest(
  device: DeviceUnderTest,
  places: readonly Place[],
  { judge, program, experiment }: Pick<Counterexample, "judge" | "program" | "experiment">,
): string {
  const lines = program.map((step) => `  ${statement(step, places)}`);
  if (judge.atCut !== undefined)
    lines.splice(experiment.cut % (program.length + 1), 0, `  // ${judge.atCut}`);
  const registers = device.registers === undefined ? "" : ", { registers: map }";
  return [
    `it("found by fuzzing: ${judge.name}", async () => {`,
    `  const bench = await testBench(${device.code ?? "device()"}${registers});`,
    ...lines,
    "});",
  ].join("\n");
}

function statement(step: Step, places: readonly Place[]): string {
  switch (step.op) {
    case "advance":
      return `bench.clock.advance(${step.ns});`;
    case "timer":
      return "bench.clock.advanceTo(bench.clock.nextDeadlineNs());";
    case "memory":
      return `bench.memory.bytes.set([${step.bytes.join(", ")}], 0x${step.gpa.toString(16)});`;
    case "read":
    case "write": {
      const value = step.op === "write" ? `0x${step.value.toString(16)}` : "";
      const name = registerName(step, places);
      if (name !== undefined) return `bench.regs.${name}.${step.op}(${value});`;
      const rest = step.op === "write" ? `, ${value}` : "";
      return `bench.${step.space}.${step.op}(0x${step.address.toString(16)}, ${step.width}${rest});`;
    }
  }
}

/** Of a whole register. */
function registerName(
  step: Extract<Step, { op: "read" | "write" }>,
  places: readonly Place[],
): string | undefined {
  for (const { space, base, length, map } of places) {
    if (map === undefined || space !== step.space || step.address < base || step.address >= base + length)
      continue;
    const name = describeOffset(map, step.address - base);
    const spec = map.specs[name.replace(/\[\d+\]$/, "")];
    return spec !== undefined && (spec.width ?? 4) === step.width ? name : undefined;
  }
  return undefined;
}
