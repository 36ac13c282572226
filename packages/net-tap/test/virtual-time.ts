import type { Scheduler } from "../src/scheduler.ts";

interface Entry {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Time that passes only when a test says so; equal deadlines run in the order they were set. */
export class VirtualTime implements Scheduler {
  #now = 0;
  #order = 0;
  #entries: Entry[] = [];

  nowMs(): number {
    return this.#now;
  }

  after(delayMs: number, callback: () => void): { cancel(): void } {
    const entry = { atMs: this.#now + delayMs, order: (this.#order += 1), callback };
    this.#entries.push(entry);
    return {
      cancel: () => {
        this.#entries = this.#entries.filter((one) => one !== entry);
      },
    };
  }

  soon(callback: () => void): void {
    this.after(0, callback);
  }

  /** Runs what is due until `done` says so, nothing is left, or `limitMs` is reached. */
  run(limitMs: number, done: () => boolean = () => false): void {
    let events = 0;
    while (!done()) {
      events += 1;
      if (events > 20_000) throw new Error(`more than 20000 events by ${this.#now} ms: a storm`);
      let next: Entry | undefined;
      for (const entry of this.#entries) {
        if (
          next === undefined ||
          entry.atMs < next.atMs ||
          (entry.atMs === next.atMs && entry.order < next.order)
        ) {
          next = entry;
        }
      }
      if (next === undefined || next.atMs > limitMs) return;
      const chosen = next;
      this.#entries = this.#entries.filter((one) => one !== chosen);
      this.#now = Math.max(this.#now, chosen.atMs);
      chosen.callback();
    }
  }
}

/** Time that passes by steps, with `soon` at once: for back ends that also wait for sockets of this host. */
export class SteppedTime implements Scheduler {
  readonly #time = new VirtualTime();

  nowMs(): number {
    return this.#time.nowMs();
  }

  after(delayMs: number, callback: () => void): { cancel(): void } {
    return this.#time.after(delayMs, callback);
  }

  soon(callback: () => void): void {
    queueMicrotask(callback);
  }

  pass(ms: number): void {
    const until = this.nowMs() + ms;
    this.after(ms, () => undefined);
    this.#time.run(until);
  }
}
