import { relative, resolve } from "node:path";
import { type DevicePluginSpec, NorthbridgeError } from "@northbridge/core/contracts";
import {
  type CampaignResult,
  describeFinding,
  type DeviceUnderTest,
  fuzzCampaign,
} from "@northbridge/sdk/fuzz";
import { type Command, InvalidArgumentError } from "commander";
import { ExitCode } from "../exit-codes.ts";
import { type CliHost, CommandFailed } from "../host.ts";
import { CorpusDirectory } from "./corpus-directory.ts";
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
  const corpus = flags.corpus === undefined ? undefined : CorpusDirectory.open(flags.corpus);
  const result = await fuzzCampaign(subject, {
    now: () => performance.now(),
    budgetMs: flags.seconds * 1000,
    seed: flags.seed,
    corpus: corpus?.entries ?? [],
    onKeep: (entry) => {
      corpus?.add(entry);
    },
  });
  await report(subject, result, corpus?.added ?? 0, flags, host);
}

async function report(
  subject: DeviceUnderTest,
  { rounds, features, requests, found }: CampaignResult,
  kept: number,
  flags: FuzzFlags,
  host: CliHost,
): Promise<void> {
  const saved = flags.corpus === undefined ? "" : `, ${kept} programs added to ${flags.corpus}`;
  if (found === undefined) {
    const taken = requests === undefined ? "" : `, ${requests} requests of hostile drivers taken`;
    host.stdout.write(
      `no law broken: ${rounds} rounds, ${features} kinds of behaviour seen${taken}${saved}\n`,
    );
    return;
  }
  host.stdout.write(`${await describeFinding(subject, found)}\n`);
  throw new CommandFailed(ExitCode.HOST_FAILURE, `device fuzz: a law is broken: ${found.law.name}${saved}`);
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
    ...codeOf(file, module, { plugin, registers, config: flags.config }),
    ...(registers && { registers }),
    ...(flags.pulses === true && { pulses: true }),
  };
}

/** How a test in the working directory makes the device. */
function codeOf(
  file: string,
  { exportNames }: DeviceModule,
  subject: { readonly plugin: unknown; readonly registers: unknown; readonly config: unknown },
): Pick<DeviceUnderTest, "code" | "registersCode" | "importCode"> {
  const path = relative(process.cwd(), resolve(file)).replaceAll("\\", "/");
  const nameOf = (value: unknown, ifDefault: string): { readonly name: string; readonly code: string } => {
    const exported = exportNames.get(value) ?? ifDefault;
    return exported === "default"
      ? { name: ifDefault, code: `default as ${ifDefault}` }
      : { name: exported, code: exported };
  };
  const plugin = nameOf(subject.plugin, "device");
  const registers = subject.registers === undefined ? undefined : nameOf(subject.registers, "registers");
  const names = [plugin.code, ...(registers === undefined ? [] : [registers.code])].join(", ");
  return {
    code: `${plugin.name}(${subject.config === undefined ? "" : JSON.stringify(subject.config)})`,
    ...(registers !== undefined && { registersCode: registers.name }),
    importCode: `import { ${names} } from "${path.startsWith(".") ? path : `./${path}`}";`,
  };
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
