/** A one-shot timer on guest time. Make it once, arm it often: arming allocates nothing. */
export interface Timer {
  /** Fires once guest time reaches `deadlineNs`; a deadline in the past fires as soon as the machine looks. Replaces an earlier deadline. */
  arm(deadlineNs: number): void;
  disarm(): void;
  /** `undefined` while not armed. */
  readonly deadlineNs: number | undefined;
}

export type ClockKind = "realtime" | "virtual";

/** Guest time. It stands still while the machine is paused. */
export interface Clock {
  readonly kind: ClockKind;
  /** Nanoseconds of guest time since the machine was first started. Never goes back. */
  nowNs(): number;
  /**
   * Host wall-clock time at guest time 0, in ms since 1970 UTC. Fixed by the config under `virtual`; under `realtime` it is
   * another one after guest time stood still, so that `epochMs` and guest time together are the host's wall clock: a
   * device that shows that looks again in `resume`.
   */
  readonly epochMs: number;
  /** The callback runs on the machine thread, never inside a register access. */
  createTimer(callback: () => void): Timer;
}

/**
 * The backend's side of a clock: who executes the guest also drives its time.
 * Under `realtime` `advance` is refused and time follows the host.
 */
export interface DrivenClock extends Clock {
  /** Earliest armed deadline, or `Infinity`. */
  nextDeadlineNs(): number;
  /** `listener` hears of every arming that makes `nextDeadlineNs` earlier: a backend asleep in HLT looks again. */
  onSooner(listener: () => void): void;
  /** Runs every callback whose deadline has come, in order of deadline, then of creation. */
  runDue(): void;
  /** `virtual` only: time now follows this counter of nanoseconds executed (non-decreasing). */
  follow(executedNs: () => number): void;
  /** `virtual` only: skips to `deadlineNs` because every vCPU is halted. */
  skipTo(deadlineNs: number): void;
  /**
   * Sets guest time: before the machine starts, to restore it. `epochMs` is the saved one; a `realtime` clock ignores
   * it, since the guest's wall clock is the host's.
   */
  startAt(nowNs: number, epochMs: number): void;
  /** Stops and restarts guest time with the machine. */
  pause(): void;
  resume(): void;
}
