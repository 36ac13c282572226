/** A timer that was set. Cancelling one that has fired does nothing. */
export interface ScheduledTimer {
  cancel(): void;
}

/** The time a back end lives by: the host's, or a test's. */
export interface Scheduler {
  /** Milliseconds that never go back. */
  nowMs(): number;
  after(delayMs: number, callback: () => void): ScheduledTimer;
  /** Runs `callback` soon, but never inside the caller. */
  soon(callback: () => void): void;
}

/** The host's time. Its timers keep no process alive. */
export const hostScheduler: Scheduler = {
  nowMs: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return {
      cancel() {
        clearTimeout(timer);
      },
    };
  },
  soon(callback) {
    queueMicrotask(callback);
  },
};

/** One deadline that moves often: moving it later costs no host timer. */
export class Alarm {
  readonly #scheduler: Scheduler;
  readonly #fire: () => void;
  #deadlineMs: number | undefined;
  #timer: ScheduledTimer | undefined;
  #timerMs = 0;

  constructor(scheduler: Scheduler, fire: () => void) {
    this.#scheduler = scheduler;
    this.#fire = fire;
  }

  get armed(): boolean {
    return this.#deadlineMs !== undefined;
  }

  arm(delayMs: number): void {
    const deadline = this.#scheduler.nowMs() + delayMs;
    this.#deadlineMs = deadline;
    if (this.#timer !== undefined) {
      if (this.#timerMs <= deadline) return;
      this.#timer.cancel();
    }
    this.#start(deadline, delayMs);
  }

  /** Forgets the deadline; a host timer that is under way finds nothing to do. */
  disarm(): void {
    this.#deadlineMs = undefined;
  }

  close(): void {
    this.#deadlineMs = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #start(deadlineMs: number, delayMs: number): void {
    this.#timerMs = deadlineMs;
    this.#timer = this.#scheduler.after(Math.max(1, Math.ceil(delayMs)), () => {
      this.#timer = undefined;
      const deadline = this.#deadlineMs;
      if (deadline === undefined) return;
      const left = deadline - this.#scheduler.nowMs();
      if (left > 0.5) {
        this.#start(deadline, left);
        return;
      }
      this.#deadlineMs = undefined;
      this.#fire();
    });
  }
}
