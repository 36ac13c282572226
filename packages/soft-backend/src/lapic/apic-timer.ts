import type { DrivenClock, Timer } from "@northbridge/sdk";

/**
 * Countdown of a local APIC (SDM 3A §11.5.4). The input clock is 1 GHz, so that one count at divisor 1 is one
 * nanosecond of guest time; CPUID leaf 0x15 says so.
 */
export class ApicTimer {
  readonly #clock: DrivenClock;
  readonly #timer: Timer;
  readonly #expired: () => void;
  #divisor = 2;
  #initial = 0;
  #deadlineNs = 0;
  #periodic = false;
  #armed = false;

  constructor(clock: DrivenClock, expired: () => void) {
    this.#clock = clock;
    this.#expired = expired;
    this.#timer = clock.createTimer(() => {
      this.#fire();
    });
  }

  get armed(): boolean {
    return this.#armed;
  }

  /** Loads the counter. Zero stops it. */
  start(initial: number, current: number, periodic: boolean): void {
    this.#initial = initial;
    this.#periodic = periodic;
    if (initial === 0) {
      this.stop();
      return;
    }
    this.#armAt(this.#clock.nowNs() + current * this.#divisor);
  }

  /** Expires once at an absolute guest time (TSC-deadline mode). */
  startDeadline(deadlineNs: number): void {
    this.#periodic = false;
    this.#initial = 0;
    this.#armAt(deadlineNs);
  }

  stop(): void {
    this.#armed = false;
    this.#timer.disarm();
  }

  /** A change between one-shot and periodic leaves a running counter alone. */
  setPeriodic(periodic: boolean): void {
    this.#periodic = periodic;
  }

  /** @param code the divide configuration register; a running counter keeps its count. */
  setDivide(code: number): void {
    const current = this.current();
    const shift = ((code & 3) | ((code & 8) >> 1)) + 1;
    this.#divisor = 1 << (shift & 7);
    if (this.#armed && this.#initial !== 0) this.#armAt(this.#clock.nowNs() + current * this.#divisor);
  }

  /** The current count register. */
  current(): number {
    if (!this.#armed || this.#initial === 0) return 0;
    const left = this.#deadlineNs - this.#clock.nowNs();
    return left <= 0 ? 0 : Math.min(0xffff_ffff, Math.ceil(left / this.#divisor));
  }

  /** Nanoseconds until the counter reaches zero, 0 where that is due but not yet done. Undefined: it does not count. */
  get leftNs(): number | undefined {
    if (!this.#armed || this.#initial === 0) return undefined;
    return Math.max(0, this.#deadlineNs - this.#clock.nowNs());
  }

  /** Goes on where a counter was whose `leftNs` is given. */
  resume(initial: number, leftNs: number, periodic: boolean): void {
    this.#initial = initial;
    this.#periodic = periodic;
    this.#armAt(this.#clock.nowNs() + leftNs);
  }

  #armAt(deadlineNs: number): void {
    this.#deadlineNs = deadlineNs;
    this.#armed = true;
    this.#timer.arm(deadlineNs);
  }

  #fire(): void {
    if (!this.#armed) return;
    if (this.#periodic) {
      const period = this.#initial * this.#divisor;
      const late = this.#clock.nowNs() - this.#deadlineNs;
      // Ticks that the host slept through merge into one, as they would in the IRR.
      this.#armAt(this.#deadlineNs + period * (late > period ? Math.floor(late / period) + 1 : 1));
    } else {
      this.#armed = false;
    }
    this.#expired();
  }
}
