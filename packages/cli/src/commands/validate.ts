import { access, constants } from "node:fs/promises";
import {
  ConfigError,
  ConfigErrors,
  ConfigProblems,
  errorOf,
  fileErrorReason,
  loadMachineConfig,
  planMachine,
  tryBoot,
  tryMachine,
} from "@northbridge/core";
import { type MachineConfig, NorthbridgeError } from "@northbridge/core/contracts";
import type { CliHost } from "../host.ts";
import { hypervisorFor } from "../run/hypervisor-for.ts";
import { withoutBackEnd } from "../vhost-user/without-back-end.ts";
import type { RegisterCommand } from "./register-command.ts";

export const registerValidate: RegisterCommand = (program, host) => {
  program
    .command("validate")
    .description("check machine configs without running them")
    .argument("<MACHINE...>", "YAML, JSON or a module")
    .option("--set <PATH=VALUE>", "change one value of the config first; may be repeated", collect, [])
    .action(async (files: readonly string[], options: { readonly set: readonly string[] }) => {
      const errors: NorthbridgeError[] = [];
      for (const file of files) {
        try {
          await validate(file, options.set, host);
          host.stdout.write(`${file}: ok\n`);
        } catch (error) {
          if (error instanceof ConfigErrors) errors.push(...error.errors);
          else if (error instanceof NorthbridgeError) errors.push(error);
          else throw error;
        }
      }
      const error = errorOf(errors);
      if (error !== undefined) throw error;
    });
};

/** An option that may be given several times. */
export const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value];

/** Throws what is wrong with one machine: all of that, as far as one thing does not hide another. */
async function validate(file: string, overrides: readonly string[], host: CliHost): Promise<void> {
  const { config, hostEnds, explain } = await loadMachineConfig(file, overrides);
  const registry = await host.registry(config);
  for (const kind of hostEnds) registry.hostEnds.add(kind);
  const problems = new ConfigProblems();
  try {
    const hypervisor = await hypervisorFor(config, host);
    const plan = await problems.check(() => planMachine(config, registry, hypervisor));
    await expectFiles(config, problems);
    problems.settle();
    await problems.check(() => tryMachine({ config, hypervisor, registry, adapt: withoutBackEnd }));
    if (plan !== undefined) await tryBoot(plan);
    problems.settle();
  } catch (error) {
    throw explain(error);
  }
}

async function expectFiles({ boot }: MachineConfig, problems: ConfigProblems): Promise<void> {
  const files = {
    "boot.kernel": boot?.kernel,
    "boot.initrd": boot?.initrd,
    "boot.flat.image": boot?.flat?.image,
  };
  for (const [path, file] of Object.entries(files)) {
    if (file === undefined) continue;
    try {
      await access(file, constants.R_OK);
    } catch (error) {
      problems.note(
        new ConfigError(
          "NB_CONFIG",
          path,
          `expected a file that can be read, found ${file}: ${fileErrorReason(error)}`,
        ),
      );
    }
  }
}
