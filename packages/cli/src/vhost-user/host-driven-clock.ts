import { RealtimeClock } from "@northbridge/core";
import type { DrivenClock } from "@northbridge/core/contracts";

/** Longest that a timer of the host can wait. */
const MOST_MS = 2 ** 31 - 1;

/** A clock that runs by itself, for devices without a processor. */
export class HostDrivenClock {
  readonly clock: DrivenClock = new RealtimeClock();
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor() {
    this.clock.resume();
    this.clock.onSooner(() => {
      this.#arm();
    });
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.clock.pause();
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = this.clock.nextDeadlineNs();
    if (this.#isStopped || next === Infinity) return;
    const ms = Math.ceil((next - this.clock.nowNs()) / 1e6);
    this.#timer = setTimeout(
      () => {
        this.clock.runDue();
        this.#arm();
      },
      Math.min(Math.max(ms, 0), MOST_MS),
    );
  }
}
