import { NorthbridgeError, type NorthbridgeErrorCode, type StopReason } from "@northbridge/core/contracts";

/** What the command's exit code tells a script. */
export const ExitCode = {
  OK: 0,
  HOST_FAILURE: 1,
  BAD_INPUT: 2,
  /** Kernel panic or triple fault. */
  GUEST_CRASHED: 3,
  /** The guest reset and the config says stop. */
  GUEST_RESET: 4,
  TIMEOUT: 124,
  /** Ended by a signal: add its number. */
  SIGNAL_BASE: 128,
} as const;

/** Failures of this host, of ours or of a plugin; every other code is something wrong in what the user gave. */
const HOST_FAILURES: ReadonlySet<NorthbridgeErrorCode> = new Set([
  "NB_BACKEND",
  "NB_DEVICE",
  "NB_HOST",
  "NB_LIFECYCLE",
  "NB_SNAPSHOT",
]);

export function exitCodeOfError(error: unknown): number {
  return error instanceof NorthbridgeError && !HOST_FAILURES.has(error.code)
    ? ExitCode.BAD_INPUT
    : ExitCode.HOST_FAILURE;
}

export function exitCodeOfStop(reason: StopReason): number {
  switch (reason.kind) {
    case "powerOff":
    case "requested":
    case "halted":
      return ExitCode.OK;
    case "panic":
    case "tripleFault":
      return ExitCode.GUEST_CRASHED;
    case "reset":
      return ExitCode.GUEST_RESET;
    case "error":
      return ExitCode.HOST_FAILURE;
  }
}
