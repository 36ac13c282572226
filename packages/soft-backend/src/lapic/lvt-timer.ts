import type { DrivenClock } from "@northbridge/sdk";
import type { TimeStampCounter } from "../scheduler/time-stamp-counter.ts";
import { ApicTimer } from "./apic-timer.ts";
import { Lvt } from "./spec.ts";

/**
 * The timer in the mode that its local vector table entry gives it: one-shot, periodic or TSC-deadline
 * (SDM 3A §11.5.4). Holds IA32_TSC_DEADLINE.
 */
export class LvtTimer {
  readonly #countdown: ApicTimer;
  readonly #tsc: TimeStampCounter;
  /** Bits `Lvt.TIMER_MODE`. */
  #mode: number = Lvt.TIMER_ONE_SHOT;
  #deadlineLow = 0;
  #deadlineHigh = 0;

  constructor(deps: {
    readonly clock: DrivenClock;
    readonly tsc: TimeStampCounter;
    readonly expired: () => void;
  }) {
    this.#tsc = deps.tsc;
    this.#countdown = new ApicTimer(deps.clock, () => {
      this.#forgetDeadline();
      deps.expired();
    });
  }

  reset(): void {
    this.#countdown.stop();
    this.#countdown.setDivide(0);
    this.#mode = Lvt.TIMER_ONE_SHOT;
    this.#forgetDeadline();
  }

  #forgetDeadline(): void {
    this.#deadlineLow = 0;
    this.#deadlineHigh = 0;
  }

  get isDeadlineMode(): boolean {
    return this.#mode === Lvt.TIMER_TSC_DEADLINE;
  }

  get #isPeriodic(): boolean {
    return this.#mode === Lvt.TIMER_PERIODIC;
  }

  get deadlineLow(): number {
    return this.#deadlineLow;
  }

  get deadlineHigh(): number {
    return this.#deadlineHigh;
  }

  /** The current count register. */
  current(): number {
    return this.#countdown.current();
  }

  /** As `ApicTimer.leftNs`. */
  get leftNs(): number | undefined {
    return this.#countdown.leftNs;
  }

  /** Takes the mode of a written entry over. True: what was counting is gone, and with it the initial count. */
  setMode(entry: number): boolean {
    const was = this.#mode;
    this.#mode = entry & Lvt.TIMER_MODE;
    if (was === this.#mode) return false;
    if (was !== Lvt.TIMER_TSC_DEADLINE && !this.isDeadlineMode) {
      this.#countdown.setPeriodic(this.#isPeriodic);
      return false;
    }
    this.#countdown.stop();
    this.#forgetDeadline();
    return true;
  }

  /** The initial count register was written. False: not in TSC-deadline mode. */
  start(initial: number): boolean {
    if (this.isDeadlineMode) return false;
    this.#countdown.start(initial, initial, this.#isPeriodic);
    return true;
  }

  setDivide(code: number): void {
    this.#countdown.setDivide(code);
  }

  /** Arms for a TSC value; zero disarms. Ignored outside TSC-deadline mode (SDM 3A §11.5.4.1). */
  writeDeadline(low: number, high: number): void {
    if (!this.isDeadlineMode) return;
    this.#deadlineLow = low >>> 0;
    this.#deadlineHigh = high >>> 0;
    if (low === 0 && high === 0) this.#countdown.stop();
    else this.#countdown.startDeadline(this.#tsc.nanosecondsAt(low, high));
  }

  /** The guest moved its TSC: an armed deadline now falls at another time. */
  tscMoved(): void {
    if (this.#countdown.armed && this.isDeadlineMode)
      this.#countdown.startDeadline(this.#tsc.nanosecondsAt(this.#deadlineLow, this.#deadlineHigh));
  }

  /** Goes on as registers of a saved page say; `leftNs`, where it is known, is more exact than `current`. */
  restore(saved: {
    readonly entry: number;
    readonly divide: number;
    readonly initial: number;
    readonly current: number;
    readonly leftNs: number | undefined;
  }): void {
    this.reset();
    this.#mode = saved.entry & Lvt.TIMER_MODE;
    this.#countdown.setDivide(saved.divide);
    if (this.isDeadlineMode) return;
    if (saved.leftNs !== undefined) this.#countdown.resume(saved.initial, saved.leftNs, this.#isPeriodic);
    else if (saved.current !== 0) this.#countdown.start(saved.initial, saved.current, this.#isPeriodic);
  }
}
