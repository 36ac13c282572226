import { type Counterexample, describeCounterexample, minimise } from "./counterexample.ts";
import { benchFor, type DeviceUnderTest } from "./device-under-test.ts";
import { findCounterexample } from "./fuzz-device.ts";
import { type Experiment, judge, lawsFor } from "./laws.ts";
import { operationOf } from "./operation-of.ts";
import type { Step } from "./program.ts";
import {
  describeHostile,
  findHostileCounterexample,
  HOSTILE,
  type HostileCounterexample,
} from "./virtio/hostile-campaign.ts";
import type { DrivenVirtioDevice } from "./virtio/driven-device.ts";
import { driveHostilely } from "./virtio/hostile-driver.ts";
import { type HostileOperation, RINGS, type Rings } from "./virtio/hostile-operation.ts";
import { drivenPlugin } from "./virtio/plugin-device.ts";

/** A program that is kept: one that broke a law once, or that showed something new. */
export interface ProgramEntry {
  /** Of the law that it broke. */
  readonly law?: string;
  readonly program: readonly Step[];
  readonly experiment: Experiment;
}

/** What a driver did by which a virtio device broke the law once. */
export interface HostileEntry {
  readonly law: typeof HOSTILE;
  readonly program: readonly HostileOperation[];
  readonly rings: Rings;
}

/** What is kept of a campaign for the next one. */
export type CorpusEntry = ProgramEntry | HostileEntry;

/** How long a campaign goes on, and from where. */
export interface CampaignOptions {
  /** Time of the host, for the budget. */
  readonly now: () => number;
  readonly budgetMs: number;
  readonly seed: number;
  readonly corpus?: readonly CorpusEntry[];
  /** Hears of programs to keep. */
  readonly onKeep?: (entry: CorpusEntry) => void;
}

/** What came of a campaign. */
export interface CampaignResult {
  readonly rounds: number;
  /** Kinds of behaviour seen. */
  readonly features: number;
  /** Requests that a virtio device took. Undefined where it is none. */
  readonly requests?: number;
  readonly found?: Counterexample | HostileCounterexample;
}

/** What is wrong, and a test to paste that shows it: it fails with the same words. */
export const describeFinding = async (
  device: DeviceUnderTest,
  found: NonNullable<CampaignResult["found"]>,
): Promise<string> =>
  "operations" in found ? describeHostile(device, found) : describeCounterexample(device, found);

const RUNS_PER_ROUND = 60;
const MOST_STARTS = 64;
/** Programs that are looked at for something new. */
const TRIED_PER_SEARCH = 5;
const HOSTILE_RUNS_PER_ROUND = 20;

/**
 * Tries a device against all laws until time is up or one is broken. What the corpus has is tried first; programs that
 * show something new are kept, and others begin with them. A virtio device has hostile drivers for half of the time.
 */
export async function fuzzCampaign(
  device: DeviceUnderTest,
  options: CampaignOptions,
): Promise<CampaignResult> {
  const driven = await drivenPlugin(device);
  if (driven === undefined) return tryLaws(device, options);
  const { now, budgetMs } = options;
  const started = now();
  const hostile = await driveUntil(driven, { ...options, budgetMs: budgetMs / 2 });
  if (hostile.found !== undefined) return hostile;
  const rest = await tryLaws(device, { ...options, budgetMs: budgetMs - (now() - started) });
  return {
    ...rest,
    rounds: hostile.rounds + rest.rounds,
    ...(hostile.requests !== undefined && { requests: hostile.requests }),
  };
}

/** Hostile drivers, one layout of rings after the other. */
async function driveUntil(driven: DrivenVirtioDevice, options: CampaignOptions): Promise<CampaignResult> {
  const { now, budgetMs, seed, corpus = [], onKeep } = options;
  const deadline = now() + budgetMs;
  let requests = 0;
  for (const entry of corpus) {
    if (!("rings" in entry)) continue;
    const { rings, program: operations } = entry;
    try {
      requests += (await driveHostilely(driven, rings, operations)).requests;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return {
        rounds: 0,
        features: 0,
        requests,
        found: { law: { name: HOSTILE }, rings, operations, message, seed },
      };
    }
  }
  let rounds = 0;
  do {
    for (const rings of RINGS) {
      const search = {
        runs: HOSTILE_RUNS_PER_ROUND,
        seed: seed + rounds,
        onTrial: (result: { readonly requests: number }) => {
          requests += result.requests;
        },
      };
      const found = await findHostileCounterexample(driven, rings, search);
      if (found !== undefined) {
        onKeep?.({ law: HOSTILE, program: found.operations, rings });
        return { rounds, features: 0, requests, found };
      }
      if (now() >= deadline) break;
    }
    rounds++;
  } while (now() < deadline);
  return { rounds, features: 0, requests };
}

async function tryLaws(device: DeviceUnderTest, options: CampaignOptions): Promise<CampaignResult> {
  const { now, budgetMs, corpus = [], onKeep } = options;
  const deadline = now() + budgetMs;
  const bench = await benchFor(device);
  const laws = lawsFor(device).filter(({ isFor }) => isFor?.(bench) !== false);
  const features = new Set<string>();
  const starts: (readonly Step[])[] = [];
  /** The beginning of the program that shows something new, if it does. */
  const keep = async (program: readonly Step[]): Promise<readonly Step[] | undefined> => {
    let newest = 0;
    for (const [index, shown] of (await featuresOf(device, program)).entries()) {
      const before = features.size;
      for (const feature of shown) features.add(feature);
      if (features.size > before) newest = index + 1;
    }
    if (newest === 0) return undefined;
    const start = program.slice(0, newest);
    starts.push(start);
    if (starts.length > MOST_STARTS) starts.shift();
    return start;
  };
  /** Tries one program against the laws, or the one that it broke before. */
  const tryEntry = async (entry: ProgramEntry): Promise<Counterexample | undefined> => {
    const { program, experiment } = entry;
    for (const law of laws) {
      if (entry.law !== undefined && law.name !== entry.law) continue;
      try {
        await judge(law, device, program, experiment);
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        return minimise(device, { law, program, experiment, message, seed: options.seed });
      }
    }
    return undefined;
  };
  const end = (rounds: number, found: Counterexample): CampaignResult => {
    onKeep?.({ law: found.law.name, program: found.program, experiment: found.experiment });
    return { rounds, features: features.size, found };
  };
  for (const entry of corpus) {
    if ("rings" in entry) continue;
    const found = await tryEntry(entry);
    if (found !== undefined) return end(0, found);
    await keep(entry.program);
  }
  let rounds = 0;
  do {
    for (const law of laws) {
      const seed = options.seed + rounds;
      const tried: (readonly Step[])[] = [];
      const onTry = (program: readonly Step[]): void => {
        if (tried.length < TRIED_PER_SEARCH && program.length > 3) tried.push([...program]);
      };
      const found = await findCounterexample(law, device, { runs: RUNS_PER_ROUND, seed, starts, onTry });
      if (found !== undefined) return end(rounds, found);
      for (const program of tried) {
        const start = await keep(program);
        if (start === undefined) continue;
        const experiment = { cut: start.length, pick: 0, value: 0 };
        onKeep?.({ program: start, experiment });
        const foundThere = await tryEntry({ program, experiment });
        if (foundThere !== undefined) return end(rounds, foundThere);
      }
      if (now() >= deadline) break;
    }
    rounds++;
  } while (now() < deadline);
  return { rounds, features: features.size };
}

/** What each step of a program shows, told apart coarsely: places, sizes of values, interrupts, DMA, what is saved. */
async function featuresOf(
  device: DeviceUnderTest,
  program: readonly Step[],
): Promise<readonly ReadonlySet<string>[]> {
  const bench = await benchFor(device);
  const atRest = stateFeatures(bench.device.save?.());
  let last = "";
  return program.map((step) => {
    const features = new Set<string>();
    const operation = operationOf(step);
    const isHigh = Object.values(bench.interrupts.levels()).includes(true);
    for (const event of bench.record(() => void operation(bench))) {
      if (event.kind === "read" || event.kind === "write") {
        last = `${event.kind} ${event.region} ${event.offset}`;
        features.add(`${last} ${32 - Math.clz32(event.value)} ${isHigh ? "while high" : ""}`);
      } else if (event.kind === "irq") {
        features.add(`irq ${event.gsi} ${String(event.level)} after ${last}`);
      } else {
        features.add(event.kind);
      }
    }
    features.add(`dma in ${32 - Math.clz32(bench.memory.nonZeroBytesRead)}`);
    for (const [path, value] of stateFeatures(bench.device.save?.()))
      if (atRest.get(path) !== value) features.add(`state ${path}`);
    return features;
  });
}

/** What is saved, by the path to it; arrays of numbers in one piece. */
function stateFeatures(state: unknown): ReadonlyMap<string, number> {
  const features = new Map<string, number>();
  const walk = (value: unknown, path: string): void => {
    if (typeof value === "number") features.set(path, value);
    else if (Array.isArray(value) && value.every((each) => typeof each === "number"))
      features.set(
        path,
        value.reduce((sum, each) => (Math.imul(sum, 31) + each) >>> 0, 0),
      );
    else if (typeof value === "object" && value !== null)
      for (const [key, inner] of Object.entries(value)) walk(inner, `${path}.${key}`);
    else features.set(path, value === true ? 1 : 0);
  };
  walk(state, "");
  return features;
}
