import { type Counterexample, minimise } from "./counterexample.ts";
import { findCounterexample } from "./fuzz-device.ts";
import {
  answersInWidth,
  type Experiment,
  holdsLevels,
  type Judge,
  keepsRegisterMap,
  resetsToPowerOn,
  survivesSaving,
} from "./judges.ts";
import type { Step } from "./program.ts";
import { benchFor, type DeviceUnderTest, observeStep } from "./run-program.ts";

/** A program that is kept: one that broke a law once, or that showed something new. */
export interface CorpusEntry {
  /** Of the law that it broke. */
  readonly law?: string;
  readonly program: readonly Step[];
  readonly experiment: Experiment;
}

export interface CampaignOptions {
  /** Time of the host, for the budget. */
  readonly now: () => number;
  readonly budgetMs: number;
  readonly seed: number;
  readonly corpus?: readonly CorpusEntry[];
  /** Hears of programs to keep. */
  readonly onKeep?: (entry: CorpusEntry) => void;
}

export interface CampaignResult {
  readonly rounds: number;
  /** Kinds of behaviour seen. */
  readonly features: number;
  readonly found?: Counterexample;
}

/** In the order in which each round tries them. */
const LAWS: readonly Judge[] = [
  answersInWidth,
  keepsRegisterMap,
  survivesSaving,
  resetsToPowerOn,
  holdsLevels,
];
const RUNS_PER_ROUND = 60;
const MOST_STARTS = 64;

/**
 * Tries a device against all laws until time is up or one is broken. What the corpus has is tried first; programs that
 * show something new are kept, and others begin with them.
 */
export async function fuzzCampaign(
  device: DeviceUnderTest,
  options: CampaignOptions,
): Promise<CampaignResult> {
  const { now, budgetMs, corpus = [], onKeep } = options;
  const end = now() + budgetMs;
  const laws = LAWS.filter(({ name }) => !(device.except ?? []).includes(name));
  const features = new Set<string>();
  const starts: (readonly Step[])[] = [];
  const keep = async (program: readonly Step[]): Promise<boolean> => {
    const before = features.size;
    for (const feature of await featuresOf(device, program)) features.add(feature);
    if (features.size > before && starts.length < MOST_STARTS) starts.push(program);
    return features.size > before;
  };
  for (const entry of corpus) {
    for (const judge of laws) {
      if (entry.law !== undefined && judge.name !== entry.law) continue;
      try {
        await judge.judge(device, entry.program, entry.experiment);
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        const { program, experiment } = entry;
        const found = await minimise(device, { judge, program, experiment, message, seed: options.seed });
        onKeep?.({ law: judge.name, program: found.program, experiment: found.experiment });
        return { rounds: 0, features: features.size, found };
      }
    }
    await keep(entry.program);
  }
  let rounds = 0;
  do {
    for (const judge of laws) {
      const seed = options.seed + rounds;
      const tried: Step[][] = [];
      const watched: Judge = {
        ...judge,
        judge: (subject, program, experiment) => {
          if (tried.length < 4 && program.length > 3) tried.push([...program]);
          return judge.judge(subject, program, experiment);
        },
      };
      const found = await findCounterexample(watched, device, { runs: RUNS_PER_ROUND, seed, starts });
      if (found !== undefined) {
        const { program, experiment } = found;
        onKeep?.({ law: judge.name, program, experiment });
        return { rounds, features: features.size, found: { ...found, judge } };
      }
      for (const program of tried) {
        if (await keep(program)) onKeep?.({ program, experiment: { cut: 0, pick: 0, value: 0 } });
      }
      if (now() >= end) break;
    }
    rounds++;
  } while (now() < end);
  return { rounds, features: features.size };
}

/** What a program makes the device do, told apart coarsely: places, sizes of values, interrupts, DMA. */
async function featuresOf(device: DeviceUnderTest, program: readonly Step[]): Promise<ReadonlySet<string>> {
  const bench = await benchFor(device);
  const features = new Set<string>();
  let last = "";
  for (const step of program) {
    for (const event of observeStep(bench, step).events) {
      const feature =
        event.kind === "read" || event.kind === "write"
          ? `${event.kind} ${event.region} ${event.offset} ${32 - Math.clz32(event.value)}`
          : event.kind === "irq"
            ? `irq ${event.gsi} ${String(event.level)} after ${last}`
            : event.kind;
      if (event.kind === "read" || event.kind === "write") last = `${event.kind} ${event.offset}`;
      features.add(feature);
    }
  }
  return features;
}
