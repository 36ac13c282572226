import type { TestBench } from "../bench/test-bench.ts";
import { describeOffset } from "../registers/describe-access.ts";
import { benchFor, type DeviceUnderTest } from "./device-under-test.ts";
import { type Experiment, judge, type Law } from "./laws.ts";
import type { Step } from "./program.ts";

/** The shortest program found that breaks a law. */
export interface Counterexample {
  readonly law: Law;
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
      await judge(found.law, device, program, { ...best.experiment, cut });
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

/** What is wrong, and a test to paste that shows it: it fails with the same words. */
export async function describeCounterexample(
  device: DeviceUnderTest,
  found: Counterexample,
): Promise<string> {
  const { law, message, seed } = found;
  return `${law.name}: ${message} (seed ${seed})\n\n${asTest(device, await benchFor(device), found)}`;
}

function asTest(
  device: DeviceUnderTest,
  bench: TestBench,
  { law, program, experiment }: Counterexample,
): string {
  const { code = "device()", registers, registersCode = "registers", importCode, prepare, checker } = device;
  const at = experiment.cut % (program.length + 1);
  const statements = program.map((step) => statement(step, device, bench));
  statements.splice(at, 0, ...(law.cut?.print(at, experiment, registers) ?? []));
  const parts = [
    `create: () => ${code}`,
    ...(registers === undefined
      ? []
      : [registersCode === "registers" ? "registers" : `registers: ${registersCode}`]),
    ...(prepare === undefined ? [] : ["prepare"]),
    ...(checker === undefined ? [] : ["checker"]),
  ];
  return [
    `import { deviceTrial } from "@northbridge/sdk/fuzz";`,
    ...(importCode === undefined ? [] : [`import { it } from "vitest";`, importCode]),
    "",
    `it("found by fuzzing: ${law.name}", async () => {`,
    `  const trial = await deviceTrial({ ${parts.join(", ")} }, "${law.name}");`,
    ...statements.map((line) => `  ${line}`),
    "  trial.end();",
    "});",
  ].join("\n");
}

function statement(step: Step, device: DeviceUnderTest, bench: TestBench): string {
  switch (step.op) {
    case "advance":
      return `trial.advance(${step.ns});`;
    case "timer":
      return "trial.nextTimer();";
    case "memory":
      return `trial.run((bench) => bench.memory.bytes.set([${step.bytes.join(", ")}], 0x${step.gpa.toString(16)}));`;
    case "read":
    case "write":
      return `trial.run((bench) => ${accessCode(step, device, bench)});`;
  }
}

function accessCode(
  step: Extract<Step, { op: "read" | "write" }>,
  { registers }: DeviceUnderTest,
  bench: TestBench,
): string {
  const value = step.op === "write" ? `0x${step.value.toString(16)}` : "";
  if (registers !== undefined) {
    const { bus, region } = bench.registerRegion();
    const name = bus === bench[step.space] ? describeOffset(registers, step.address - region.base) : "";
    const [, register = "", index] = /^([A-Za-z]\w*)(?:\[(\d+)\])?$/.exec(name) ?? [];
    const spec = registers.specs[register];
    if (spec !== undefined && (spec.width ?? 4) === step.width)
      return `bench.regs.${register}${index === undefined ? "" : `[${index}]?`}.${step.op}(${value})`;
  }
  const rest = step.op === "write" ? `, ${value}` : "";
  return `bench.${step.space}.${step.op}(0x${step.address.toString(16)}, ${step.width}${rest})`;
}
