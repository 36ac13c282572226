import { type Command, InvalidArgumentError, Option } from "commander";
import type { RegisterCommand } from "./register-command.ts";
import { collect } from "./validate.ts";
import { runMachine } from "../run/run-machine.ts";
import type { RunOptions } from "../run/run-options.ts";
import { parseSaveOn, type SaveOn } from "../run/save-on.ts";

export const registerRun: RegisterCommand = (program, host, exit) => {
  addRunOptions(
    program
      .command("run")
      .description("run a machine, its first console on standard input and output")
      .argument("[MACHINE]", "YAML, JSON or a module; may be left out with --kernel or --restore"),
  ).action(async (machine: string | undefined, options: Omit<RunOptions, "machine">) => {
    exit(await runMachine({ ...options, ...(machine !== undefined && { machine }) }, host));
  });
};

/** The options of every command that runs a machine. */
export function addRunOptions(command: Command): Command {
  return command
    .addOption(new Option("--backend <NAME>", "what executes the guest").choices(["auto", "kvm", "soft"]))
    .option("--kernel <FILE>", "boot this bzImage or vmlinux")
    .option("--initrd <FILE>", "with this initial RAM disk")
    .option("--append <TEXT>", "add to the kernel's command line")
    .option("--set <PATH=VALUE>", "change one value of the config; may be repeated", collect, [])
    .addOption(new Option("--clock <KIND>", "what guest time follows").choices(["realtime", "virtual"]))
    .option("--timeout <SECONDS>", "give up after this time, with exit code 124", seconds)
    .option(
      "--expect <TEXT>",
      "note in the statistics when the guest writes this; may be repeated",
      collect,
      [],
    )
    .option("--stats <FILE>", "write statistics as JSON when the machine ends")
    .option("--monitor <SOCKET>", "listen for monitor commands at this Unix socket")
    .option("--save-on <TEXT DIR>", "save the machine to DIR and end when the guest writes TEXT", saveOn)
    .option("--watch", "replace the machine's own devices in the running guest when their modules change")
    .option("--restore <DIR>", "go on with a saved machine");
}

/** What a timer of the host can wait. */
const MOST_SECONDS = (2 ** 31 - 1) / 1000;

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value > 0 && value <= MOST_SECONDS)) {
    throw new InvalidArgumentError(`Expected seconds, as in 30 or 0.5, found "${text}".`);
  }
  return value;
}

function saveOn(joined: string): SaveOn {
  const parsed = parseSaveOn(joined);
  if (parsed === undefined)
    throw new InvalidArgumentError("Expected a text and a directory: --save-on TEXT DIR.");
  return parsed;
}
