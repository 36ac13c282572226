import type { DrivenClock, Timer } from "../contracts/index.ts";
import { TimerQueue } from "./timer-queue.ts";

/** 2026-01-01T00:00:00Z: the same for everybody, so that runs repeat bit for bit. */
const DEFAULT_EPOCH_MS = 1_767_225_600_000;

/** Guest time that is executed work plus what HLT skipped. Knows nothing of the host's time. */
export class VirtualClock implements DrivenClock {
  readonly kind = "virtual";
  #epochMs: number;
  readonly #timers = new TimerQueue();
  readonly #now = (): number => this.nowNs();
  #executed: () => number = () => 0;
  /** What to add to the executed time: where the clock began, and what was skipped. */
  #offset = 0;
  #paused = false;

  constructor(epochMs: number = DEFAULT_EPOCH_MS) {
    this.#epochMs = epochMs;
  }

  get epochMs(): number {
    return this.#epochMs;
  }

  nowNs(): number {
    return this.#executed() + this.#offset;
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
    if (!this.#paused) this.#timers.runDue(this.#now);
  }

  follow(executedNs: () => number): void {
    const now = this.nowNs();
    this.#executed = executedNs;
    this.#offset = now - executedNs();
  }

  skipTo(deadlineNs: number): void {
    const ahead = deadlineNs - this.nowNs();
    if (ahead > 0 && Number.isFinite(ahead)) this.#offset += ahead;
  }

  startAt(nowNs: number, epochMs: number): void {
    this.#offset = nowNs - this.#executed();
    this.#epochMs = epochMs;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
  }
}
