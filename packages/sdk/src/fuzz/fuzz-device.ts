import fc from "fast-check";
import { asTest, type Counterexample, minimise } from "./counterexample.ts";
import {
  answersInWidth,
  type Experiment,
  holdsLevels,
  type Judge,
  keepsRegisterMap,
  resetsToPowerOn,
  survivesSaving,
} from "./judges.ts";
import { programs, type Step } from "./program.ts";
import { benchFor, type DeviceUnderTest, placesOf } from "./run-program.ts";

export interface FuzzOptions {
  /** @defaultValue 300 */
  readonly runs?: number;
  readonly seed?: number;
}

/** The device answers any program with values of the right width and never throws. */
export function fuzzDevice(device: DeviceUnderTest, options: FuzzOptions = {}): Promise<void> {
  return fuzzLaw(answersInWidth, device, options);
}

/** Saving and restoring between any two operations cannot be observed. */
export function fuzzSnapshots(device: DeviceUnderTest, options: FuzzOptions = {}): Promise<void> {
  return fuzzLaw(survivesSaving, device, options);
}

/** Reset drops every line and leaves nothing of what was before. */
export function fuzzReset(device: DeviceUnderTest, options: FuzzOptions = {}): Promise<void> {
  return fuzzLaw(resetsToPowerOn, device, options);
}

/** Interrupt lines are levels, never pulses. */
export function fuzzInterrupts(device: DeviceUnderTest, options: FuzzOptions = {}): Promise<void> {
  return fuzzLaw(holdsLevels, device, options);
}

/** Reset values and access rules are those of the register map; nothing to do where there is none. */
export function fuzzRegisters(device: DeviceUnderTest, options: FuzzOptions = {}): Promise<void> {
  return fuzzLaw(keepsRegisterMap, device, options);
}

/** Rejects with a counterexample, as a test to paste, where the device breaks the law. */
export async function fuzzLaw(judge: Judge, device: DeviceUnderTest, options: FuzzOptions): Promise<void> {
  const found = await findCounterexample(judge, device, options);
  if (found === undefined) return;
  throw new Error(await describeCounterexample(device, found));
}

/** What is wrong, and a test that shows it. */
export async function describeCounterexample(
  device: DeviceUnderTest,
  found: Counterexample,
): Promise<string> {
  const places = placesOf(await benchFor(device), device.registers);
  return `${found.judge.name}: ${found.message} (seed ${found.seed})\n\n${asTest(device, places, found)}`;
}

/** @param starts programs to begin with, half of the time */
export async function findCounterexample(
  judge: Judge,
  device: DeviceUnderTest,
  options: FuzzOptions & { readonly starts?: readonly (readonly Step[])[] },
): Promise<Counterexample | undefined> {
  const bench = await benchFor(device);
  const places = placesOf(bench, device.registers);
  const fresh = programs(places, bench.memory.bytes.length);
  const { starts = [] } = options;
  const program =
    starts.length === 0
      ? fresh
      : fc.oneof(
          fresh,
          fc.tuple(fc.constantFrom(...starts), fresh).map(([start, rest]) => [...start, ...rest]),
        );
  const experiment: fc.Arbitrary<Experiment> = fc.record({
    cut: fc.nat(40),
    pick: fc.nat(255),
    value: fc.oneof(fc.constantFrom(0, 1, 0x7fff_ffff, 0xffff_ffff), fc.nat(0xff), fc.nat(0xffff_ffff)),
  });
  const details = await fc.check(
    fc.asyncProperty(program, experiment, (steps, trial) => judge.judge(device, steps, trial)),
    { numRuns: options.runs ?? 300, ...(options.seed !== undefined && { seed: options.seed }) },
  );
  if (!details.failed) return undefined;
  const [steps, trial] = details.counterexample ?? [[], { cut: 0, pick: 0, value: 0 }];
  const error = details.errorInstance;
  const message = error instanceof Error ? error.message : String(error);
  return minimise(device, { judge, program: steps, experiment: trial, message, seed: details.seed });
}
