import fc from "fast-check";
import { type Counterexample, describeCounterexample, minimise } from "./counterexample.ts";
import { benchFor, type DeviceUnderTest, type LawName } from "./device-under-test.ts";
import { grammarOf } from "./grammar.ts";
import { type Experiment, judge, type Law, lawsFor } from "./laws.ts";
import { programs, type Step } from "./program.ts";

/** How hard to try. */
export interface FuzzOptions {
  /** Programs. @defaultValue 300 */
  readonly runs?: number;
  /** Repeats what was tried. @defaultValue fast-check's */
  readonly seed?: number;
}

/**
 * Tries a device against one law with programs of accesses, memory contents and time. Rejects with a counterexample, as
 * a test to paste, where it breaks the law; does nothing where the law is not for it.
 */
export async function fuzzDevice(
  name: LawName,
  device: DeviceUnderTest,
  options: FuzzOptions = {},
): Promise<void> {
  const law = lawsFor(device).find((each) => each.name === name);
  const found = law && (await findCounterexample(law, device, options));
  if (found !== undefined) throw new Error(await describeCounterexample(device, found));
}

/** What one search is told, besides how hard to try. */
export interface Search extends FuzzOptions {
  /** Programs to begin with, half of the time; the last of them more often than others. */
  readonly starts?: readonly (readonly Step[])[];
  /** Hears of every program before it is tried. */
  readonly onTry?: (program: readonly Step[]) => void;
}

/** The shortest program found that breaks the law, if any does. */
export async function findCounterexample(
  law: Law,
  device: DeviceUnderTest,
  { starts = [], onTry, runs = 300, seed }: Search,
): Promise<Counterexample | undefined> {
  if (law.isFor?.(await benchFor(device)) === false) return undefined;
  const { places, memoryBytes } = await grammarOf(device);
  const program = programs(places, memoryBytes);
  const experiment: fc.Arbitrary<Experiment> = fc.record({
    cut: fc.nat(40),
    pick: fc.nat(255),
    value: fc.oneof(fc.constantFrom(0, 1, 0x7fff_ffff, 0xffff_ffff), fc.nat(0xff), fc.nat(0xffff_ffff)),
  });
  const fresh = fc.tuple(program, experiment);
  // Where a start has shown something new is the place to look.
  const grown = fc
    .tuple(startFrom(starts), program, experiment, fc.boolean())
    .map(([start, rest, trial, isThere]): [Step[], Experiment] => [
      [...start, ...rest],
      isThere ? { ...trial, cut: start.length } : trial,
    ]);
  const details = await fc.check(
    fc.asyncProperty(fc.oneof(fresh, grown), ([steps, trial]) => {
      onTry?.(steps);
      return judge(law, device, steps, trial);
    }),
    { numRuns: runs, ...(seed !== undefined && { seed }) },
  );
  if (!details.failed) return undefined;
  const [[steps, trial]] = details.counterexample ?? [[[], { cut: 0, pick: 0, value: 0 }]];
  const error = details.errorInstance;
  const message = error instanceof Error ? error.message : String(error);
  return minimise(device, { law, program: steps, experiment: trial, message, seed: details.seed });
}

/** What came late shows something rare. */
const LATEST = 8;

function startFrom(starts: readonly (readonly Step[])[]): fc.Arbitrary<readonly Step[]> {
  const all = fc.constantFrom([], ...starts);
  return starts.length <= LATEST ? all : fc.oneof(all, fc.constantFrom(...starts.slice(-LATEST)));
}
