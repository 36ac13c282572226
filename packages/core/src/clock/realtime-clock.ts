import type { DrivenClock, Timer } from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";
import { TimerQueue } from "./timer-queue.ts";

/** Where a realtime clock takes host time from; a test brings its own. */
export interface HostTime {
  /** Monotonic. */
  nowNs(): number;
  /** Milliseconds since 1970 UTC. */
  wallMs(): number;
}

/** Time of this host: `performance.now`, whose resolution is a microsecond or better. */
export const hostTime: HostTime = {
  nowNs: () => performance.now() * 1e6,
  wallMs: () => Date.now(),
};

/**
 * Guest time that follows the host's monotonic clock while the machine runs. Created paused at 0. Whenever it goes on, its
 * wall clock is the host's.
 */
export class RealtimeClock implements DrivenClock {
  readonly kind = "realtime";
  #epochMs: number;
  readonly #host: HostTime;
  readonly #timers = new TimerQueue();
  readonly #now = (): number => this.nowNs();
  /** Guest time at the last resume, or now if paused. */
  #base = 0;
  /** Host time at the last resume; `undefined` while paused. */
  #since: number | undefined;
  #last = 0;

  constructor(host: HostTime = hostTime) {
    this.#host = host;
    this.#epochMs = host.wallMs();
  }

  get epochMs(): number {
    return this.#epochMs;
  }

  nowNs(): number {
    const now =
      this.#since === undefined ? this.#base : Math.floor(this.#base + this.#host.nowNs() - this.#since);
    if (now > this.#last) this.#last = now;
    return this.#last;
  }

  createTimer(callback: () => void): Timer {
    return this.#timers.create(callback);
  }

  nextDeadlineNs(): number {
    return this.#timers.next;
  }

  onSooner(listener: () => void): void {
    this.#timers.onSooner(listener);
  }

  runDue(): void {
    if (this.#since !== undefined) this.#timers.runDue(this.#now);
  }

  follow(): void {
    throw new NorthbridgeError("NB_BACKEND", "a realtime clock follows the host, not executed instructions");
  }

  skipTo(): void {
    throw new NorthbridgeError("NB_BACKEND", "a realtime clock cannot skip: wait for the deadline instead");
  }

  startAt(nowNs: number): void {
    this.#base = nowNs;
    this.#last = nowNs;
    this.#epochMs = this.#host.wallMs() - nowNs / 1e6;
  }

  pause(): void {
    this.#base = this.nowNs();
    this.#since = undefined;
  }

  resume(): void {
    if (this.#since !== undefined) return;
    this.#since = this.#host.nowNs();
    this.#epochMs = this.#host.wallMs() - this.#base / 1e6;
  }
}
