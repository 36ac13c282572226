import { resolve } from "node:path";
import { loadMachineConfig, parseMachineConfig, readManifest } from "@northbridge/core";
import { type BootConfig, type MachineConfig, NorthbridgeError } from "@northbridge/core/contracts";
import type { RunOptions } from "./run-options.ts";

/** The machine a command line means. */
export interface ResolvedConfig {
  readonly config: MachineConfig;
  /** Puts the config's file in front of an error about the config. */
  readonly explain: (error: unknown) => unknown;
}

/** What runs with nothing but `--kernel`. */
const PLAIN: MachineConfig = { name: "linux", machine: "pc-1", memory: { mib: 512 } };

/** The config of file, snapshot or `--kernel` alone, changed as the command line says. Throws `NB_CONFIG`. */
export async function resolveConfig(options: RunOptions): Promise<ResolvedConfig> {
  const { config, explain } = await loadBase(options);
  const boot = withBootOptions(config.boot, options);
  return {
    config: {
      ...config,
      ...(options.backend && { backend: options.backend }),
      ...(options.clock && { clock: options.clock }),
      ...(boot && { boot }),
    },
    explain,
  };
}

async function loadBase(options: RunOptions): Promise<ResolvedConfig> {
  const asIs = (error: unknown): unknown => error;
  if (options.machine !== undefined) return loadMachineConfig(options.machine, options.set);
  if (options.set.length > 0)
    throw new NorthbridgeError("NB_CONFIG", "--set: expected a MACHINE to change, found none");
  if (options.restore !== undefined) {
    const { config } = await readManifest(options.restore);
    return { config: parseMachineConfig(config), explain: asIs };
  }
  if (options.kernel !== undefined) return { config: PLAIN, explain: asIs };
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
