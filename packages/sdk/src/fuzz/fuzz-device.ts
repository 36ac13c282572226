import fc from "fast-check";
import { describeOffset } from "../registers/describe-access.ts";
import { type Place, programs, type Step } from "./program.ts";
import { benchFor, clone, type DeviceUnderTest, placesOf, runStep } from "./run-program.ts";

export interface FuzzOptions {
  /** @defaultValue 300 */
  readonly runs?: number;
  readonly seed?: number;
}

/** A property of a device: rejects where `program` breaks it. */
type Judge = (device: DeviceUnderTest, program: readonly Step[], cut: number) => Promise<void>;

const answersInWidth: Judge = async (device, program) => {
  const bench = await benchFor(device);
  for (const step of program) runStep(bench, step);
};

const survivesSaving: Judge = async (device, program, cut) => {
  const bench = await benchFor(device);
  const at = cut % (program.length + 1);
  for (const step of program.slice(0, at)) runStep(bench, step);
  const other = await clone(device, bench);
  expectSame("interrupt levels", bench.interrupts.levels(), other.interrupts.levels());
  for (const [index, step] of program.slice(at).entries()) {
    expectSame(`step ${at + index + 1}, ${step.op}`, runStep(bench, step), runStep(other, step));
  }
  expectSame("the saved state at the end", bench.device.save?.(), other.device.save?.());
};

const resetDropsLines: Judge = async (device, program) => {
  const bench = await benchFor(device);
  for (const step of program) runStep(bench, step);
  bench.device.reset?.();
  for (const fn of bench.pci.functions) fn.reset();
  for (const [gsi, isHigh] of Object.entries(bench.interrupts.levels())) {
    if (isHigh) throw new Error(`GSI ${gsi} is still high after reset`);
  }
};

function expectSame(what: string, expected: unknown, found: unknown): void {
  const [a, b] = [JSON.stringify(expected), JSON.stringify(found)];
  if (a !== b) throw new Error(`${what}: the restored device differs: ${b}, the one that went on: ${a}`);
}

/** The device answers any program with values of the right width and never throws. */
export function fuzzDevice(device: DeviceUnderTest, options: FuzzOptions = {}): Promise<void> {
  return judge("fuzz", answersInWidth, device, options);
}

/** Saving and restoring between any two operations cannot be observed. */
export function fuzzSnapshots(device: DeviceUnderTest, options: FuzzOptions = {}): Promise<void> {
  return judge("save and restore", survivesSaving, device, options);
}

/** Reset drops every line, whatever happened before. */
export function fuzzReset(device: DeviceUnderTest, options: FuzzOptions = {}): Promise<void> {
  return judge("reset", resetDropsLines, device, options);
}

async function judge(
  what: string,
  property: Judge,
  device: DeviceUnderTest,
  options: FuzzOptions,
): Promise<void> {
  const bench = await benchFor(device);
  const places = placesOf(bench, device.registers);
  const details = await fc.check(
    fc.asyncProperty(programs(places, bench.memory.bytes.length), fc.nat(40), (program, cut) =>
      property(device, program, cut),
    ),
    { numRuns: options.runs ?? 300, ...(options.seed !== undefined && { seed: options.seed }) },
  );
  if (!details.failed) return;
  const [program, cut] = details.counterexample ?? [[], 0];
  const error = details.errorInstance;
  throw new Error(
    `${what}: ${error instanceof Error ? error.message : String(error)} (seed ${details.seed})\n\n${pasteable(device, places, program, cut % (program.length + 1), what)}`,
    { cause: error },
  );
}

/** The counterexample as a test. */
function pasteable(
  device: DeviceUnderTest,
  places: readonly Place[],
  program: readonly Step[],
  cut: number,
  what: string,
): string {
  const lines = program.map((step) => `  ${statement(step, places)}`);
  if (what === "save and restore") lines.splice(cut, 0, "  // saved and restored here");
  const registers = device.registers === undefined ? "" : ", { registers: map }";
  return [
    `it("found by fuzzing: ${what}", async () => {`,
    `  const bench = await testBench(${device.code ?? "device()"}${registers});`,
    ...(places.length > 0 && program.length > 0 ? lines : []),
    "});",
  ].join("\n");
}

function statement(step: Step, places: readonly Place[]): string {
  switch (step.op) {
    case "advance":
      return `bench.clock.advance(${step.ns});`;
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
    const register = name.replace(/\[\d+\]$/, "");
    return map.specs[register]?.width === step.width ||
      (map.specs[register] && (map.specs[register].width ?? 4) === step.width)
      ? name
      : undefined;
  }
  return undefined;
}
