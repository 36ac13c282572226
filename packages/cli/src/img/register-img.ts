import { Command } from "commander";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { registerBench } from "./bench.ts";
import { registerBitmap } from "./bitmap.ts";
import { registerCheck } from "./check.ts";
import { registerCommit } from "./commit.ts";
import { registerCompare } from "./compare.ts";
import { registerConvert } from "./convert.ts";
import { registerCreate } from "./create.ts";
import { registerDd } from "./dd.ts";
import { registerInfo } from "./info.ts";
import { registerMap } from "./map.ts";
import { registerMeasure } from "./measure.ts";
import { registerRebase } from "./rebase.ts";
import { registerResize } from "./resize.ts";
import { registerSnapshot } from "./snapshot.ts";

const COMMANDS: readonly RegisterCommand[] = [
  registerBench,
  registerBitmap,
  registerCheck,
  registerCommit,
  registerCompare,
  registerConvert,
  registerCreate,
  registerDd,
  registerInfo,
  registerMap,
  registerMeasure,
  registerRebase,
  registerResize,
  registerSnapshot,
];

/** Exit code of qemu-img for whatever went wrong, a bad command line too. */
const FAILED = 1;

const EXIT_CODES = `
Exit codes are qemu-img's: 0 done, 1 failed (a missing file, a bad command line). Of compare: 0 the same, 1 different,
2 or more failed. Of check: 0 clean, 1 could not be checked, 2 corrupt, 3 leaked clusters only, 63 a format without checks.`;

/** A command whose every failure exits as qemu-img does. */
class ImgCommand extends Command {
  override createCommand(name?: string): Command {
    return new ImgCommand(name);
  }

  /** What commander finds wrong with the command line. */
  override error(message: string): never {
    const usage =
      this.parent instanceof ImgCommand ? `; usage: northbridge img ${this.name()} ${this.usage()}` : "";
    throw new CommandFailed(FAILED, `${message.replace(/^error: |\.$/g, "")}${usage}`);
  }

  override action(act: (this: this, ...args: never[]) => void | Promise<void>): this {
    return super.action(async (...args: unknown[]) => {
      try {
        await act.apply(this, args as never[]);
      } catch (error) {
        if (error instanceof CommandFailed) throw error;
        throw new CommandFailed(FAILED, error instanceof Error ? error.message : String(error));
      }
    });
  }
}

/** `northbridge img`, with qemu-img's option spellings and exit codes. */
export const registerImg: RegisterCommand = (program, host, exit) => {
  const img = new ImgCommand("img").description("make, check, copy and change disk images, as qemu-img does");
  img.addHelpText("after", EXIT_CODES);
  img.copyInheritedSettings(program).exitOverride((error) => {
    if (error.exitCode === 0) throw error;
    throw new CommandFailed(FAILED, "expected a command; see northbridge img --help");
  });
  for (const register of COMMANDS) register(img, host, exit);
  program.addCommand(img);
};
