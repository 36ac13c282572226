import { ConfigErrors } from "@northbridge/core";
import { Command, CommanderError } from "commander";
import manifest from "../package.json" with { type: "json" };
import { commandsFor } from "./commands/index.ts";
import { ExitCode, exitCodeOfError } from "./exit-codes.ts";
import { type CliHost, CommandFailed } from "./host.ts";
import { joinSaveOn } from "./run/save-on.ts";

/**
 * Runs one command line and resolves with the exit code. Errors become one line on standard error, with a stack only
 * under `--debug`.
 * @param args without the names of Node and of the script
 */
export async function runCli(args: readonly string[], host: CliHost): Promise<number> {
  let exitCode: number = ExitCode.OK;
  const program = new Command("northbridge");
  program
    .description("Runs virtual machines.")
    .version(manifest.version)
    .configureOutput({ writeOut: (text) => host.stdout.write(text), writeErr: () => undefined })
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .helpCommand(false)
    .option("--debug", "show the stack of an error");
  for (const register of await commandsFor(args)) {
    register(program, host, (code) => {
      exitCode = code;
    });
  }
  const say = (line: string): void => void host.stderr.write(`northbridge: ${line}\n`);
  try {
    await program.parseAsync(joinSaveOn(args), { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return ExitCode.OK;
      say(
        error.code === "commander.help"
          ? "expected a command; see northbridge --help"
          : inOneLine(error.message.replace(/^error: /, "")),
      );
      return ExitCode.BAD_INPUT;
    }
    for (const one of error instanceof ConfigErrors ? error.errors : [error])
      say(one instanceof Error ? inOneLine(one.message) : String(one));
    if (args.includes("--debug")) for (const stack of stacks(error)) host.stderr.write(`${stack}\n`);
    return error instanceof CommandFailed ? error.exitCode : exitCodeOfError(error);
  }
}

/** The stack of the error, of its cause, of that one's cause. */
function* stacks(error: unknown): Iterable<string> {
  for (let at = error; at instanceof Error; at = at.cause)
    yield at === error ? (at.stack ?? "") : `caused by ${at.stack ?? ""}`;
}

const inOneLine = (message: string): string => message.replaceAll(/\s*\n\s*/g, " ");
