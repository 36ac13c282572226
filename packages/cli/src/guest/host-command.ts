import { execFile } from "node:child_process";
import { NorthbridgeError } from "@northbridge/core";

export interface CommandOptions {
  readonly cwd?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Runs a program of the host and answers with its standard output. Throws `NB_HOST` with its own last words. */
export async function runHostCommand(
  command: string,
  args: readonly string[],
  { cwd, signal }: CommandOptions = {},
): Promise<string> {
  const MAX_OUTPUT = 64 * 2 ** 20;
  // The output is read by a program: in no language but C's.
  const env = { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      { cwd, signal, env, maxBuffer: MAX_OUTPUT },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout);
          return;
        }
        const said = stderr.trim().split("\n").at(-1) ?? "";
        const reason =
          error.code === "ENOENT" ? "there is no such program" : said === "" ? error.message : said;
        const fail = (): void => {
          reject(
            new NorthbridgeError("NB_HOST", `${command} ${args.join(" ")}: ${reason}`, { cause: error }),
          );
        };
        // An interrupt is reported before the program has gone, and until then it may still write files.
        if (child.exitCode === null && child.signalCode === null && child.pid !== undefined)
          child.once("close", fail);
        else fail();
      },
    );
  });
}
