import type { Timer } from "../contracts/index.ts";

/** A timer as the queue holds it: a node of a list sorted by deadline, then by creation. */
class QueuedTimer implements Timer {
  readonly #queue: TimerQueue;
  readonly callback: () => void;
  /** Order of creation, which breaks ties. */
  readonly serial: number;
  deadline: number = Infinity;
  armed: boolean = false;
  next: QueuedTimer | undefined;
  previous: QueuedTimer | undefined;

  constructor(queue: TimerQueue, callback: () => void, serial: number) {
    this.#queue = queue;
    this.callback = callback;
    this.serial = serial;
  }

  get deadlineNs(): number | undefined {
    return this.armed ? this.deadline : undefined;
  }

  arm(deadlineNs: number): void {
    this.#queue.arm(this, deadlineNs);
  }

  disarm(): void {
    this.#queue.disarm(this);
  }
}

/**
 * Armed timers in order of deadline, then of creation. Arming allocates nothing; it walks the armed timers,
 * of which a machine has a dozen.
 */
export class TimerQueue {
  #first: QueuedTimer | undefined;
  #created = 0;
  readonly #listeners: (() => void)[] = [];

  create(callback: () => void): Timer {
    return new QueuedTimer(this, callback, this.#created++);
  }

  onSooner(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Earliest deadline, or `Infinity`. */
  get next(): number {
    return this.#first?.deadline ?? Infinity;
  }

  /** Runs what is due at `now()`, asked once, and returns how many ran. */
  runDue(now: () => number): number {
    let ran = 0;
    // A callback that rearms itself in the past must not hang the machine: one turn handles what was due on entry.
    const limit = now();
    for (let timer = this.#first; timer !== undefined && timer.deadline <= limit; timer = this.#first) {
      if (++ran > MOST_PER_TURN) break;
      this.disarm(timer);
      timer.callback();
    }
    return ran;
  }

  /** Throws where the deadline has no place in an order, as NaN and nothing at all have none: a device's fault. */
  arm(timer: QueuedTimer, deadline: number): void {
    if (!(deadline >= -Infinity)) throw new RangeError(`a timer cannot be armed for ${deadline}`);
    this.disarm(timer);
    timer.deadline = deadline;
    timer.armed = true;
    let before: QueuedTimer | undefined;
    let after = this.#first;
    while (
      after !== undefined &&
      (after.deadline < deadline || (after.deadline === deadline && after.serial < timer.serial))
    ) {
      before = after;
      after = after.next;
    }
    timer.previous = before;
    timer.next = after;
    if (after !== undefined) after.previous = timer;
    if (before !== undefined) before.next = timer;
    else {
      this.#first = timer;
      if (after === undefined || deadline < after.deadline)
        for (const listener of this.#listeners) listener();
    }
  }

  disarm(timer: QueuedTimer): void {
    if (!timer.armed) return;
    timer.armed = false;
    if (timer.previous !== undefined) timer.previous.next = timer.next;
    else this.#first = timer.next;
    if (timer.next !== undefined) timer.next.previous = timer.previous;
    timer.previous = undefined;
    timer.next = undefined;
  }
}

/** Callbacks of one turn at most: a timer that keeps rearming itself in the past still lets the guest run. */
const MOST_PER_TURN = 10_000;
