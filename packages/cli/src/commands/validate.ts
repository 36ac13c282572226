import { access, constants } from "node:fs/promises";
import { ConfigError, fileErrorReason, loadMachineConfig, planMachine } from "@northbridge/core";
import type { MachineConfig } from "@northbridge/core/contracts";
import type { RegisterCommand } from "./register-command.ts";

export const registerValidate: RegisterCommand = (program, host) => {
  program
    .command("validate")
    .description("check machine configs without running them")
    .argument("<MACHINE...>", "YAML, JSON or a module")
    .option("--set <PATH=VALUE>", "change one value of the config first; may be repeated", collect, [])
    .action(async (files: readonly string[], options: { readonly set: readonly string[] }) => {
      for (const file of files) {
        const loaded = await loadMachineConfig(file, options.set);
        try {
          const hypervisor = await host.hypervisor(loaded.config.backend ?? "auto");
          await planMachine(loaded.config, host.registry, hypervisor);
          await expectFiles(loaded.config);
        } catch (error) {
          throw loaded.explain(error);
        }
        host.stdout.write(`${file}: ok\n`);
      }
    });
};

/** An option that may be given several times. */
export const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value];

async function expectFiles({ boot }: MachineConfig): Promise<void> {
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
      throw new ConfigError(
        "NB_CONFIG",
        path,
        `expected a file that can be read, found ${file}: ${fileErrorReason(error)}`,
      );
    }
  }
}
