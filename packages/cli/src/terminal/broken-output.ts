import { fileErrorReason } from "@northbridge/core";
import { ExitCode } from "../exit-codes.ts";

/** What a shell says of a program that SIGPIPE ended (128 + 13). */
const NOBODY_READS = 141;

/**
 * Keeps a broken standard output from ending the process with a stack: the command comes to its end, and its exit code says
 * that what it wrote did not arrive. Where a guest's console is on it, the run sees to that.
 */
export function surviveBrokenOutput(
  { stdout, stderr }: Pick<NodeJS.Process, "stdout" | "stderr">,
  fail: (exitCode: number) => void,
): void {
  stderr.on("error", () => undefined);
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (stdout.listenerCount("error") > 1) return;
    if (error.code !== "EPIPE") stderr.write(`northbridge: standard output: ${fileErrorReason(error)}\n`);
    fail(error.code === "EPIPE" ? NOBODY_READS : ExitCode.HOST_FAILURE);
  });
}
