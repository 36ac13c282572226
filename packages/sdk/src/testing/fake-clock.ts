import type { Clock, Timer } from "@northbridge/core/contracts";

/** Guest time that moves only when the test says so. Due timers run in order of deadline, then of creation. */
export class FakeClock implements Clock {
  readonly kind = "virtual";
  readonly epochMs: number;
  #nowNs = 0;
  readonly #timers: FakeTimer[] = [];

  constructor(options: { readonly epochMs?: number; readonly nowNs?: number } = {}) {
    this.epochMs = options.epochMs ?? 0;
    this.#nowNs = options.nowNs ?? 0;
  }

  nowNs(): number {
    return this.#nowNs;
  }

  createTimer(callback: () => void): Timer {
    const timer = new FakeTimer(callback);
    this.#timers.push(timer);
    return timer;
  }

  /** Earliest armed deadline, or `Infinity`. */
  nextDeadlineNs(): number {
    let next = Infinity;
    for (const timer of this.#timers) next = Math.min(next, timer.deadlineNs ?? Infinity);
    return next;
  }

  /** Lets time pass, stopping at each deadline on the way. */
  advance(ns: number): void {
    this.advanceTo(this.#nowNs + ns);
  }

  advanceTo(nowNs: number): void {
    for (let due = this.#earliest(nowNs); due !== undefined; due = this.#earliest(nowNs)) {
      this.#nowNs = Math.max(this.#nowNs, due.deadlineNs ?? 0);
      due.fire();
    }
    this.#nowNs = Math.max(this.#nowNs, nowNs);
  }

  /** Lets time pass without running timers: a host that looks late. */
  jump(ns: number): void {
    this.#nowNs += ns;
  }

  #earliest(limitNs: number): FakeTimer | undefined {
    let earliest: FakeTimer | undefined;
    for (const timer of this.#timers) {
      if (timer.deadlineNs === undefined || timer.deadlineNs > limitNs) continue;
      if (earliest === undefined || timer.deadlineNs < (earliest.deadlineNs ?? 0)) earliest = timer;
    }
    return earliest;
  }
}

class FakeTimer implements Timer {
  deadlineNs: number | undefined = undefined;
  readonly #callback: () => void;

  constructor(callback: () => void) {
    this.#callback = callback;
  }

  /** Throws for NaN and for nothing, as a machine's timers do. */
  arm(deadlineNs: number): void {
    if (!(deadlineNs >= -Infinity)) throw new RangeError(`a timer cannot be armed for ${deadlineNs}`);
    this.deadlineNs = deadlineNs;
  }

  disarm(): void {
    this.deadlineNs = undefined;
  }

  fire(): void {
    this.deadlineNs = undefined;
    this.#callback();
  }
}
