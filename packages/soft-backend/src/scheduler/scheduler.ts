import { type DrivenClock, NorthbridgeError, type RunOptions, type VmExit } from "@northbridge/sdk";
import { EXIT_BUDGET, EXIT_HALT, EXIT_KICK, EXIT_PAUSE } from "../cpu/layout.ts";

/** A processor as the scheduler sees it. */
export interface Processor {
  readonly index: number;
  /** Can execute an instruction now: neither halted without a pending interrupt nor waiting for a start-up IPI. */
  readonly isRunnable: boolean;
  /** Halted, and an interrupt would wake it. */
  readonly canBeWoken: boolean;
  /** Instructions retired since reset; valid at any time. */
  readonly instructions: number;
  readonly rip: bigint;
  /** Acts on INIT and start-up IPIs that arrived. Never during `execute`. */
  service(): void;
  /** Executes up to `budget` instructions and says why it stopped (`EXIT_*`). */
  execute(budget: number): number;
  /** Ends the slice in progress at the next instruction boundary. */
  endSlice(): void;
  /** A failure of the host side during the last `execute`: asked once. */
  takeFailure(): string | undefined;
  /** The run's end that an exit code means, for codes other than budget, halt, kick and pause. */
  exitOf(code: number): VmExit;
}

export interface DebugControl {
  readonly singleStep: boolean;
  readonly breakpoints: ReadonlySet<bigint>;
}

/** Host services, replaced in tests. */
export interface SchedulerHost {
  nowMs(): number;
  /** Runs `fn` after the host's pending events. */
  soon(fn: () => void): void;
  /** Runs `fn` after `ms`; the result cancels. */
  after(ms: number, fn: () => void): () => void;
}

const nodeHost: SchedulerHost = {
  nowMs: () => performance.now(),
  soon: (fn) => {
    setImmediate(fn);
  },
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    return () => {
      clearTimeout(timer);
    };
  },
};

/** Longest time without giving the host's event loop a turn. */
const YIELD_MS = 5;
/** Instructions of a turn: about a millisecond alone; short in company, so that locks and IPIs do not wait long. */
const TURN_ALONE = 50_000;
const TURN_SHARED = 10_000;
/** Longest single sleep; the loop then looks again. */
const MAX_SLEEP_MS = 60_000;

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface ScheduleStateV1 {
  readonly version: 1;
  /** Index of the processor that executed last. */
  readonly turn: number;
  /** Instructions left of its turn. */
  readonly left: number;
}

interface Run {
  remaining: number;
  readonly resolve: (exit: VmExit) => void;
}

/**
 * Time-slices the processors of one machine on the one thread, round robin by instruction counts, so that under the
 * virtual clock the interleaving depends on nothing but the guest. Drives the clock: under `virtual`, time is the
 * instructions executed by all processors (1 ns each), slices end exactly at the next deadline, and a machine whose
 * processors all halt skips to it.
 */
export class Scheduler {
  readonly #processors: readonly Processor[];
  readonly #clock: DrivenClock;
  readonly #host: SchedulerHost;
  readonly #isVirtual: boolean;
  readonly #runs: (Run | undefined)[] = [];
  readonly #kicked: boolean[] = [];
  readonly #debug: (DebugControl | undefined)[] = [];
  #turn: number;
  #left = 0;
  #executed = 0;
  #running: Processor | undefined;
  #sliceStart = 0;
  #sliceEndNs = 0;
  #isScheduled = false;
  #isPumping = false;
  #hasStopped = false;
  #cancelSleep: (() => void) | undefined;
  /** Slices begun, and times that all processors slept. */
  readonly counts: { slices: number; idles: number } = { slices: 0, idles: 0 };

  constructor(deps: {
    readonly processors: readonly Processor[];
    readonly clock: DrivenClock;
    readonly host?: SchedulerHost;
  }) {
    this.#processors = deps.processors;
    this.#turn = deps.processors.length - 1;
    this.#clock = deps.clock;
    this.#host = deps.host ?? nodeHost;
    this.#isVirtual = deps.clock.kind === "virtual";
    if (this.#isVirtual) deps.clock.follow(() => this.executed);
    deps.clock.onSooner(() => {
      this.#sooner();
    });
  }

  /** Instructions executed by all processors since creation, to this very moment. */
  get executed(): number {
    const running = this.#running;
    return running === undefined ? this.#executed : this.#executed + running.instructions - this.#sliceStart;
  }

  /** The processor inside `execute`. */
  get running(): Processor | undefined {
    return this.#running;
  }

  isPending(index: number): boolean {
    return this.#runs[index] !== undefined;
  }

  run(index: number, options: RunOptions = {}): Promise<VmExit> {
    if (this.isPending(index)) {
      return Promise.reject(
        new NorthbridgeError("NB_BACKEND", `vCPU ${index}: run called while a run is pending`),
      );
    }
    if (this.#kicked[index] === true) {
      this.#kicked[index] = false;
      return Promise.resolve({ kind: "interrupted" });
    }
    const remaining = options.instructions ?? Infinity;
    if (remaining <= 0) return Promise.resolve({ kind: "budget" });
    return new Promise((resolve) => {
      this.#runs[index] = { remaining, resolve };
      this.wake();
    });
  }

  kick(index: number): void {
    if (this.#running?.index === index) {
      this.#kicked[index] = true;
      this.#running.endSlice();
    } else if (this.isPending(index)) {
      this.#finish(index, { kind: "interrupted" });
    } else {
      this.#kicked[index] = true;
    }
  }

  setDebug(index: number, debug: DebugControl | undefined): void {
    this.#debug[index] = debug;
  }

  /** Only while no run is pending. */
  save(): ScheduleStateV1 {
    return { version: 1, turn: this.#turn, left: this.#left };
  }

  /** Only while no run is pending. Throws `NB_RESTORE` for what is no such state. */
  restore(state: unknown): void {
    const { version, turn, left } = (state ?? {}) as Partial<Record<keyof ScheduleStateV1, unknown>>;
    const isTurn = Number.isInteger(turn) && this.#processors[turn as number] !== undefined;
    if (version !== 1 || !isTurn || !Number.isInteger(left) || (left as number) > TURN_ALONE) {
      throw new NorthbridgeError(
        "NB_RESTORE",
        `schedule: expected version 1 with a vCPU's turn, found ${JSON.stringify(state)}`,
      );
    }
    this.#turn = turn as number;
    this.#left = left as number;
  }

  /** Something happened that may end a sleep: an interrupt, a new run, an earlier deadline. */
  wake(): void {
    this.#cancelSleep?.();
    this.#cancelSleep = undefined;
    if (this.#isScheduled || this.#isPumping || !this.#hasRuns) return;
    this.#isScheduled = true;
    this.#host.soon(() => {
      this.#pump();
    });
  }

  /** Ends every pending run. */
  close(): void {
    for (const processor of this.#processors) if (this.isPending(processor.index)) this.kick(processor.index);
    this.#cancelSleep?.();
    this.#cancelSleep = undefined;
  }

  get #hasRuns(): boolean {
    for (const run of this.#runs) if (run !== undefined) return true;
    return false;
  }

  #sooner(): void {
    if (this.#running === undefined) this.wake();
    else if (this.#isVirtual && this.#clock.nextDeadlineNs() < this.#sliceEndNs) this.#running.endSlice();
  }

  #finish(index: number, exit: VmExit): void {
    const run = this.#runs[index];
    this.#runs[index] = undefined;
    this.#hasStopped = true;
    run?.resolve(exit);
  }

  #stopped(): boolean {
    return this.#hasStopped;
  }

  #pump(): void {
    this.#isScheduled = false;
    this.#isPumping = true;
    this.#hasStopped = false;
    const until = this.#host.nowMs() + YIELD_MS;
    let isIdle = false;
    try {
      do {
        isIdle = !this.#step();
        // A finished run gives its caller a turn at once: what it does next must not depend on the host's speed.
      } while (!isIdle && !this.#stopped() && this.#host.nowMs() < until);
    } catch (failure) {
      const detail = failure instanceof Error ? `${failure.name}: ${failure.message}` : String(failure);
      for (const { index } of this.#processors)
        if (this.isPending(index)) this.#finish(index, { kind: "error", detail });
    } finally {
      this.#isPumping = false;
    }
    if (!this.#hasRuns) return;
    if (isIdle && !this.#stopped()) this.#sleep();
    else this.wake();
  }

  /** One slice, or one skip of time. False: nothing to do until a wake-up or a deadline. */
  #step(): boolean {
    const clock = this.#clock;
    const now = clock.nowNs();
    if (clock.nextDeadlineNs() <= now) clock.runDue();
    for (const processor of this.#processors) processor.service();
    if (this.#hasStopped) return true; // a timer ended a run
    const processor = this.#pick();
    if (processor === undefined) return this.#idle();
    this.#slice(processor);
    return true;
  }

  #pick(): Processor | undefined {
    const processors = this.#processors;
    const current = processors[this.#turn];
    if (this.#left > 0 && current !== undefined && this.isPending(this.#turn) && current.isRunnable)
      return current;
    let runnable = 0;
    let next: Processor | undefined;
    for (let step = 1; step <= processors.length; step++) {
      const candidate = processors[(this.#turn + step) % processors.length];
      if (candidate === undefined || !this.isPending(candidate.index) || !candidate.isRunnable) continue;
      runnable++;
      next ??= candidate;
    }
    if (next === undefined) return undefined;
    this.#turn = next.index;
    this.#left = runnable > 1 ? TURN_SHARED : TURN_ALONE;
    return next;
  }

  #slice(processor: Processor): void {
    const { index } = processor;
    const run = this.#runs[index];
    if (run === undefined) return;
    const debug = this.#debug[index];
    let budget = debug === undefined ? Math.min(this.#left, run.remaining) : 1;
    if (this.#isVirtual) {
      const now = this.#clock.nowNs();
      budget = Math.min(budget, Math.max(1, Math.ceil(this.#clock.nextDeadlineNs() - now)));
      this.#sliceEndNs = now + budget;
    }
    this.counts.slices++;
    this.#sliceStart = processor.instructions;
    this.#running = processor;
    let code: number;
    try {
      code = processor.execute(budget);
      // With nobody to give the turn to, spinning goes on here: delay loops execute PAUSE a hundred thousand times.
      while (code === EXIT_PAUSE && !this.#isContended(processor)) {
        const left = budget - (processor.instructions - this.#sliceStart);
        code = left > 0 ? processor.execute(left) : EXIT_BUDGET;
      }
    } finally {
      const retired = processor.instructions - this.#sliceStart;
      this.#running = undefined;
      this.#executed += retired;
      this.#left -= retired;
      run.remaining -= retired;
    }
    this.#settle(processor, run, code, debug);
  }

  /** Whether another processor could use the turn. */
  #isContended(processor: Processor): boolean {
    for (const other of this.#processors) {
      if (other !== processor && this.isPending(other.index) && other.isRunnable) return true;
    }
    return false;
  }

  #settle(processor: Processor, run: Run, code: number, debug: DebugControl | undefined): void {
    const { index } = processor;
    const failure = processor.takeFailure();
    if (failure !== undefined) {
      this.#finish(index, { kind: "error", detail: failure, rip: processor.rip });
      return;
    }
    switch (code) {
      case EXIT_BUDGET:
      case EXIT_KICK:
        break;
      case EXIT_HALT:
      case EXIT_PAUSE:
        this.#left = 0;
        break;
      default:
        this.#finish(index, processor.exitOf(code));
        return;
    }
    if (debug !== undefined && (debug.singleStep || debug.breakpoints.has(processor.rip))) {
      this.#finish(index, { kind: "debug", rip: processor.rip });
    } else if (this.#kicked[index] === true) {
      this.#kicked[index] = false;
      this.#finish(index, { kind: "interrupted" });
    } else if (run.remaining <= 0) {
      this.#finish(index, { kind: "budget" });
    }
  }

  /** Nobody can execute. */
  #idle(): boolean {
    let anyone = false;
    for (const processor of this.#processors)
      if (this.isPending(processor.index) && processor.canBeWoken) anyone = true;
    if (!anyone) {
      // Nothing will ever send a start-up IPI either.
      for (const { index } of this.#processors)
        if (this.isPending(index)) this.#finish(index, { kind: "halt" });
      return false;
    }
    this.counts.idles++;
    if (!this.#isVirtual) return false;
    const deadline = this.#clock.nextDeadlineNs();
    if (deadline === Infinity) return false;
    this.#clock.skipTo(deadline);
    return true;
  }

  #sleep(): void {
    const waitMs = (this.#clock.nextDeadlineNs() - this.#clock.nowNs()) / 1e6;
    if (waitMs < 1) {
      this.wake();
      return;
    }
    this.#cancelSleep = this.#host.after(Math.min(Math.floor(waitMs), MAX_SLEEP_MS), () => {
      this.#cancelSleep = undefined;
      this.wake();
    });
  }
}
