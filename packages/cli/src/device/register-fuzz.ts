import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileErrorReason } from "@northbridge/core";
import { type DevicePluginSpec, NorthbridgeError } from "@northbridge/core/contracts";
import {
  type CampaignResult,
  type CorpusEntry,
  describeCounterexample,
  type DeviceUnderTest,
  fuzzCampaign,
} from "@northbridge/sdk/fuzz";
import { type Command, InvalidArgumentError } from "commander";
import { ExitCode } from "../exit-codes.ts";
import { type CliHost, CommandFailed } from "../host.ts";
import { type DeviceModule, loadDeviceModule } from "./load-device-module.ts";

interface FuzzFlags {
  readonly seconds: number;
  readonly seed: number;
  readonly corpus?: string;
  readonly plugin?: string;
  readonly config?: unknown;
  readonly pulses?: boolean;
}

/** Adds `device fuzz`. */
export function registerFuzz(device: Command, host: CliHost): void {
  device
    .command("fuzz")
    .description(
      "try a device of a module against the laws that every device keeps, until time is up or one is broken",
    )
    .argument("<MODULE>", "exports a plugin, and its register map where it has one")
    .option("--seconds <N>", "how long", positive, 10)
    .option("--seed <N>", "repeats a campaign", positive, 1)
    .option("--corpus <DIR>", "programs to begin with; what is found goes there")
    .option("--plugin <NAME>", "which plugin, where the module exports several")
    .option("--config <JSON>", "the plugin's config", json)
    .option("--pulses", "the device's interrupt lines may go up and down at once")
    .action((module: string, flags: FuzzFlags) => runFuzz(module, flags, host));
}

async function runFuzz(file: string, flags: FuzzFlags, host: CliHost): Promise<void> {
  const subject = subjectOf(file, await loadDeviceModule(file), flags);
  const corpus = flags.corpus === undefined ? undefined : new CorpusDirectory(flags.corpus);
  const result = await fuzzCampaign(subject, {
    now: () => performance.now(),
    budgetMs: flags.seconds * 1000,
    seed: flags.seed,
    corpus: (await corpus?.load()) ?? [],
    onKeep: (entry) => {
      corpus?.add(entry);
    },
  });
  const kept = (await corpus?.save()) ?? 0;
  await report(subject, result, kept, flags, host);
}

async function report(
  subject: DeviceUnderTest,
  { rounds, features, found }: CampaignResult,
  kept: number,
  flags: FuzzFlags,
  host: CliHost,
): Promise<void> {
  const saved = flags.corpus === undefined ? "" : `, ${kept} programs added to ${flags.corpus}`;
  if (found === undefined) {
    host.stdout.write(`no law broken: ${rounds} rounds, ${features} kinds of behaviour seen${saved}\n`);
    return;
  }
  host.stdout.write(`${await describeCounterexample(subject, found)}\n`);
  throw new CommandFailed(ExitCode.HOST_FAILURE, `device fuzz: a law is broken: ${found.judge.name}${saved}`);
}

function subjectOf(file: string, module: DeviceModule, flags: FuzzFlags): DeviceUnderTest {
  const wanted = flags.plugin;
  const matches = module.plugins.filter(
    ({ pluginName }) => wanted === undefined || pluginName === wanted || pluginName.endsWith(`/${wanted}`),
  );
  const [plugin, second] = matches;
  if (plugin === undefined || second !== undefined) {
    const names = module.plugins.map(({ pluginName }) => pluginName).join(", ");
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${file}: expected one plugin${wanted === undefined ? ", or --plugin NAME" : ` ${wanted}`}, found ${names || "none"}`,
    );
  }
  const name = plugin.pluginName.slice(plugin.pluginName.lastIndexOf("/") + 1);
  const spec: DevicePluginSpec<never, never> = plugin.spec;
  const [first] = module.registers.values();
  const registers = module.registers.get(name) ?? (module.registers.size === 1 ? first : undefined);
  return {
    create: () => ({ spec, input: flags.config ?? {} }),
    code: `${name}(${flags.config === undefined ? "" : JSON.stringify(flags.config)})`,
    ...(registers && { registers }),
    ...(flags.pulses === true && { pulses: true }),
  };
}

/** Programs as files, one each: named by what they are, so that the same one is there once. */
class CorpusDirectory {
  readonly #directory: string;
  readonly #known = new Set<string>();
  readonly #added: CorpusEntry[] = [];

  constructor(directory: string) {
    this.#directory = directory;
  }

  async load(): Promise<readonly CorpusEntry[]> {
    try {
      await mkdir(this.#directory, { recursive: true });
      const names = (await readdir(this.#directory)).filter((name) => name.endsWith(".json")).sort();
      const texts = await Promise.all(names.map((name) => readFile(join(this.#directory, name), "utf8")));
      for (const text of texts) this.#known.add(text);
      return texts.map((text) => JSON.parse(text) as CorpusEntry);
    } catch (error) {
      throw new NorthbridgeError(
        "NB_HOST",
        `${this.#directory}: cannot read the corpus: ${fileErrorReason(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  add(entry: CorpusEntry): void {
    this.#added.push(entry);
  }

  /** @returns how many were new */
  async save(): Promise<number> {
    let written = 0;
    let number = this.#known.size;
    for (const entry of this.#added) {
      const text = `${JSON.stringify(entry)}\n`;
      if (this.#known.has(text)) continue;
      this.#known.add(text);
      const kind = (entry.law ?? "new").replaceAll(" ", "-");
      await writeFile(join(this.#directory, `${kind}-${String(number++).padStart(4, "0")}.json`), text);
      written++;
    }
    return written;
  }
}

function positive(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value > 0))
    throw new InvalidArgumentError(`Expected a number above 0, found "${text}".`);
  return value;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new InvalidArgumentError(`Expected JSON, found "${text}".`);
  }
}
