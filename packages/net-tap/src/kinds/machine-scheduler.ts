import type { Clock } from "@northbridge/sdk";
import { hostScheduler, type ScheduledTimer, type Scheduler } from "../scheduler.ts";

/** How often timers whose machine has paused are looked at again. */
const LOOK_MS = 50;

/**
 * The host's time without the machine's pauses: what waits for the guest or for the host's network waits in seconds of the
 * host, and a machine that stands still loses nothing by it (docs/adr/0038). Under a `virtual` clock the host's time as it
 * is. Timers are the host's: a clock's own are few and kept in a list.
 */
export class MachineScheduler implements Scheduler {
  readonly #clock: Clock;
  readonly #host: Scheduler;
  /** Timers that came due on the host and not here. */
  #late = new Set<() => void>();
  /** Those of them that are looked at just now. */
  #looking = new Set<() => void>();

  constructor(clock: Clock, host: Scheduler = hostScheduler) {
    this.#clock = clock;
    this.#host = host;
  }

  nowMs(): number {
    return this.#clock.kind === "realtime" ? this.#clock.nowNs() / 1e6 : this.#host.nowMs();
  }

  after(delayMs: number, callback: () => void): ScheduledTimer {
    const dueMs = this.nowMs() + delayMs;
    let timer: ScheduledTimer | undefined;
    const look = (): void => {
      timer = undefined;
      const leftMs = dueMs - this.nowMs();
      // Timers of the host may come a fraction early.
      if (leftMs < 1) callback();
      else if (leftMs > LOOK_MS) timer = this.#host.after(leftMs, look);
      else this.#lookAgain(look);
    };
    timer = this.#host.after(delayMs, look);
    return {
      cancel: () => {
        timer?.cancel();
        this.#late.delete(look);
        this.#looking.delete(look);
      },
    };
  }

  soon(callback: () => void): void {
    this.#host.soon(callback);
  }

  /** One timer of the host for all that are late. */
  #lookAgain(look: () => void): void {
    this.#late.add(look);
    if (this.#late.size > 1) return;
    this.#host.after(LOOK_MS, () => {
      [this.#looking, this.#late] = [this.#late, new Set()];
      for (const again of this.#looking) again(); // but those that one of them cancels
    });
  }
}
