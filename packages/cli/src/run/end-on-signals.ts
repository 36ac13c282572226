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
 * the host. It says where it was thrown, where nothing says by whom. Returns what undoes that.
 * @param blame whether it knows whose it is, and ends that
 */
export function onUncaught(fail: (error: Error) => void, blame: (error: unknown) => boolean): () => void {
  const listener = (error: unknown): void => {
    const cause = error instanceof Error ? error : new Error(String(error));
    const place = thrownAt(cause.stack ?? "");
    const where = place === undefined ? "" : ` (thrown at ${place})`;
    const placed = new Error(cause.message + where, { cause });
    if (cause.stack !== undefined) placed.stack = cause.stack;
    if (blame(placed)) return;
    fail(new CommandFailed(ExitCode.HOST_FAILURE, `nobody caught: ${placed.message}`, { cause }));
  };
  process.on("uncaughtException", listener);
  return () => process.off("uncaughtException", listener);
}

/** The innermost frame that is a file: not Node's own. */
const thrownAt = (stack: string): string | undefined =>
  /(?:file:\/\/)?(\/[^()\n]*:\d+:\d+)\)?$/m.exec(stack)?.[1];
