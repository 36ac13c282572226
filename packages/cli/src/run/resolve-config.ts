import { resolve } from "node:path";
import {
  applyOverrides,
  explainer,
  loadMachineConfig,
  parseMachineConfig,
  readManifest,
} from "@northbridge/core";
import {
  type BootConfig,
  type HostEndKind,
  type MachineConfig,
  NorthbridgeError,
} from "@northbridge/core/contracts";
import type { RunOptions } from "./run-options.ts";

/** The machine a command line means. */
export interface ResolvedConfig {
  readonly config: MachineConfig;
  /** Kinds of host ends that come with it. */
  readonly hostEnds: readonly HostEndKind[];
  /** Puts the config's file in front of an error about the config. */
  readonly explain: (error: unknown) => unknown;
}

/** What runs with nothing but `--kernel`. */
const PLAIN: MachineConfig = { name: "linux", machine: "pc-1", memory: { mib: 512 } };

/** The config of file, snapshot or `--kernel` alone, changed as the command line says. Throws `NB_CONFIG`. */
export async function resolveConfig(options: RunOptions): Promise<ResolvedConfig> {
  const { config, hostEnds, explain } = await loadBase(options);
  const boot = withBootOptions(config.boot, options);
  return {
    config: {
      ...config,
      ...(options.backend && { backend: options.backend }),
      ...(options.clock && { clock: options.clock }),
      ...(boot && { boot }),
    },
    hostEnds,
    explain,
  };
}

async function loadBase(options: RunOptions): Promise<ResolvedConfig> {
  if (options.machine !== undefined) return loadMachineConfig(options.machine, options.set);
  const explain = explainer(options.set, () => undefined);
  try {
    const config = parseMachineConfig(await applyOverrides(await baseWithoutFile(options), options.set));
    return { config, hostEnds: [], explain };
  } catch (error) {
    throw explain(error);
  }
}

async function baseWithoutFile({ restore, kernel }: RunOptions): Promise<unknown> {
  if (restore !== undefined) {
    const { config } = await readManifest(restore);
    if (config !== undefined) return config;
    throw new NorthbridgeError(
      "NB_CONFIG",
      `run: the config of the machine in ${restore} is more than data: expected its MACHINE too, found none`,
    );
  }
  if (kernel !== undefined) return PLAIN;
  throw new NorthbridgeError("NB_CONFIG", "run: expected a MACHINE, --kernel or --restore, found none");
}

function withBootOptions(boot: BootConfig | undefined, options: RunOptions): BootConfig | undefined {
  const { kernel, initrd, append } = options;
  if (kernel === undefined && initrd === undefined && append === undefined) return boot;
  const { flat, ...rest } = boot ?? {};
  const cmdline = [boot?.cmdline, append].filter((part) => part !== undefined && part !== "").join(" ");
  return {
    ...rest,
    ...(flat !== undefined && kernel === undefined && { flat }),
    ...(kernel !== undefined && { kernel: resolve(kernel) }),
    ...(initrd !== undefined && { initrd: resolve(initrd) }),
    ...(cmdline !== "" && { cmdline }),
  };
}
