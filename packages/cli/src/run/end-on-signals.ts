import { constants } from "node:os";
import { CommandFailed } from "../host.ts";
import { ExitCode } from "../exit-codes.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Calls `end` with the exit code of a signal that asks this process to end; a second one ends it at once. Returns
 * what gives the signals back.
 */
export function endOnSignals(end: (exitCode: number) => void): () => void {
  let isEnding = false;
  const listener = (signal: NodeJS.Signals): void => {
    const exitCode = ExitCode.SIGNAL_BASE + constants.signals[signal];
    if (isEnding) process.exit(exitCode);
    isEnding = true;
    end(exitCode);
  };
  for (const signal of SIGNALS) process.on(signal, listener);
  return () => {
    for (const signal of SIGNALS) process.off(signal, listener);
  };
}

/**
 * Hands what nobody caught to `fail`, so that the terminal is given back first: a promise of a device, or a callback of
 * the host. It says where it was thrown, since nothing says by whom. Returns what undoes that.
 */
export function onUncaught(fail: (error: Error) => void): () => void {
  const listener = (error: unknown): void => {
    const cause = error instanceof Error ? error : new Error(String(error));
    const place = thrownAt(cause.stack ?? "");
    const where = place === undefined ? "" : ` (thrown at ${place})`;
    fail(new CommandFailed(ExitCode.HOST_FAILURE, `nobody caught: ${cause.message}${where}`, { cause }));
  };
  process.on("uncaughtException", listener);
  return () => process.off("uncaughtException", listener);
}

/** The innermost frame that is a file: not Node's own. */
const thrownAt = (stack: string): string | undefined =>
  /(?:file:\/\/)?(\/[^()\n]*:\d+:\d+)\)?$/m.exec(stack)?.[1];
