import { constants } from "node:os";
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

/** Hands what nobody caught to `fail`, so that the terminal is given back first. Returns what undoes that. */
export function onUncaught(fail: (error: Error) => void): () => void {
  process.on("uncaughtException", fail);
  return () => process.off("uncaughtException", fail);
}
