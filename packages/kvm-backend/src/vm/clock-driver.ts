import type { DrivenClock } from "@northbridge/sdk";

/** The longest that a timer of the host may wait. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Runs the timers of guest time while vCPUs run on threads of their own. */
export class ClockDriver {
  readonly #clock: DrivenClock;
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;

  constructor(clock: DrivenClock) {
    this.#clock = clock;
    clock.onSooner(() => {
      if (this.#isRunning) this.#arm();
    });
  }

  /** @param isRunning whether any vCPU has a run pending */
  set(isRunning: boolean): void {
    if (isRunning === this.#isRunning) return;
    this.#isRunning = isRunning;
    if (isRunning) this.#arm();
    else clearTimeout(this.#timer);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const deadline = this.#clock.nextDeadlineNs();
    if (deadline === Infinity) return;
    const delay = Math.min(Math.max(0, (deadline - this.#clock.nowNs()) / 1e6), MAX_DELAY_MS);
    this.#timer = setTimeout(() => {
      this.#clock.runDue();
      if (this.#isRunning) this.#arm();
    }, delay);
  }
}
