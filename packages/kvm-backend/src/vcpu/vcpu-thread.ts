import { SHARE_ENV, Worker } from "node:worker_threads";
import { EventFd, FdWatch, interruptOn, signalThread } from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";
import { Run } from "../abi/spec.ts";
import {
  KICK_SIGNAL,
  type Mail,
  type RangeMail,
  type ThreadData,
  Turn,
  type VcpuMail,
  Word,
  WORDS,
} from "./mailbox.ts";
import { Spinning } from "./spinning.ts";

/** Looks at the mailbox before the machine thread goes back to its event loop: some 50 µs. */
const EXIT_LOOKS = 10_000;
/** The same for a guest that was interrupted, some 40 µs: one that executes is back after 20 where leaving is slow. */
const KICK_LOOKS = 8000;
/**
 * Then the machine thread sleeps so long for it. Longer than the host's tick is: a timer that is the processor's next
 * one costs as much as the whole kick.
 */
const PATIENCE_MS = 10;

const isSource = import.meta.url.endsWith(".ts");
/** Beside this file in the sources; beside the bundle in the package. */
const WORKER = new URL(isSource ? "./vcpu-worker.ts" : "./vcpu-worker.js", import.meta.url);

/** Those that have not ended. The process waits for each of them at its end, and each for its guest. */
const threads = new Set<VcpuThread>();

function quitAll(): void {
  for (const thread of threads) thread.quit();
}

/** The machine thread's end of one vCPU's thread. */
export class VcpuThread {
  readonly #worker: Worker;
  readonly #words: Int32Array<SharedArrayBuffer> = new Int32Array(
    new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT),
  );
  readonly #exitSpinning = new Spinning(this.#words, EXIT_LOOKS);
  readonly #kickSpinning = new Spinning(this.#words, KICK_LOOKS);
  readonly #gone: Promise<void>;
  readonly #event = new EventFd();
  readonly #watch: FdWatch;
  /** `kvm_run` of its vCPU. */
  #run: DataView | undefined;
  #failure: Error | undefined;
  #isStopping = false;
  /** Wakes who awaits the thread. */
  #wake: (() => void) | undefined;

  /** Starts the thread, which takes some tens of milliseconds: `attach` waits for it. */
  constructor(name: string) {
    interruptOn(KICK_SIGNAL);
    const workerData: ThreadData = { words: this.#words.buffer, name, event: this.#event.fd };
    this.#watch = new FdWatch(this.#event.fd, () => {
      this.#event.drain();
      this.#wake?.();
    });
    // The thread itself keeps the process.
    this.#watch.unref();
    try {
      this.#worker = new Worker(WORKER, {
        workerData,
        env: SHARE_ENV,
        trackUnmanagedFds: false,
        ...(isSource && { execArgv: ["--conditions=northbridge-source", "--no-warnings"] }),
      });
    } catch (error) {
      this.#release();
      throw error;
    }
    this.#worker.on("error", (error) => {
      this.#lose(error instanceof Error ? error : new Error(String(error)));
    });
    this.#gone = new Promise((resolve) => {
      this.#worker.once("exit", (code) => {
        if (!this.#isStopping) this.#lose(new Error(`it ended by itself, with code ${code}`));
        this.#release();
        threads.delete(this);
        if (threads.size === 0) process.off("exit", quitAll);
        resolve();
      });
    });
    if (threads.size === 0) process.on("exit", quitAll);
    threads.add(this);
  }

  /** Gives the thread its vCPU; resolves when it can be handed turns. Throws `NB_BACKEND`. */
  async attach(vcpu: Omit<VcpuMail, "kind">): Promise<void> {
    this.#run = new DataView(vcpu.run);
    this.#send({ kind: "vcpu", ...vcpu });
    await this.#whileTurnIs(Turn.STARTING);
  }

  /** Has a range answered on the thread, from the next entry into the guest on. */
  addRange(range: Omit<RangeMail, "kind">): void {
    this.#send({ kind: "range", ...range });
  }

  get tid(): number {
    return Atomics.load(this.#words, Word.TID);
  }

  get isInGuest(): boolean {
    return Atomics.load(this.#words, Word.TURN) === Turn.GUEST;
  }

  /** Number of the errno of the last entry, 0 where it ended with an exit. */
  get errno(): number {
    return Atomics.load(this.#words, Word.ERRNO);
  }

  /** Exits that the thread answered by itself. */
  get answered(): number {
    return Atomics.load(this.#words, Word.ANSWERED);
  }

  /** Lets the guest go on. `exited` says when it is back. */
  enter(): void {
    this.#expectAlive();
    Atomics.store(this.#words, Word.TURN, Turn.GUEST);
    Atomics.notify(this.#words, Word.TURN);
  }

  /** Whether the guest is back before long: for exits that follow each other closely. */
  isBackSoon(): boolean {
    return this.#exitSpinning.isBack();
  }

  /** Resolves when the guest is back. Throws `NB_BACKEND` where the thread failed. */
  exited(): Promise<void> {
    return this.#whileTurnIs(Turn.GUEST);
  }

  /** Interrupts KVM_RUN. The caller has set `kvm_run.immediate_exit`: the thread may not have got there yet. */
  interrupt(): void {
    if (signalThread(this.tid, KICK_SIGNAL)) return;
    // It is gone. The event loop tells why, and that may stand still until the guest is back.
    this.#endTurn();
    this.#wake?.();
  }

  /**
   * Interrupts KVM_RUN and blocks until the guest is back, for some milliseconds at most. Whoever awaits the exit goes
   * on with the next microtask. Returns whether it is back.
   */
  interruptAndWait(): boolean {
    // The event loop need not hear of it.
    Atomics.store(this.#words, Word.AWAITED, 0);
    this.interrupt();
    if (!this.#kickSpinning.isBack()) Atomics.wait(this.#words, Word.TURN, Turn.GUEST, PATIENCE_MS);
    this.#hearWhenNot(Turn.GUEST);
    return !this.isInGuest;
  }

  /** Only while it is the machine thread's turn, or before the first one. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#endTurn();
    await this.#gone;
  }

  /** Has the thread end soon, wherever it is: nobody hears of its guest any more. */
  quit(): void {
    this.#isStopping = true;
    this.#endTurn();
    this.#run?.setUint8(Run.IMMEDIATE_EXIT, 1);
    if (this.tid !== 0) signalThread(this.tid, KICK_SIGNAL);
  }

  #lose(reason: Error): void {
    this.#failure ??= reason;
    this.#endTurn();
    this.#wake?.();
  }

  #endTurn(): void {
    Atomics.store(this.#words, Word.TURN, Turn.QUIT);
    Atomics.notify(this.#words, Word.TURN);
  }

  #release(): void {
    this.#watch.close();
    this.#event.close();
  }

  #send(mail: Mail): void {
    this.#worker.postMessage(mail);
    Atomics.add(this.#words, Word.MAIL, 1);
  }

  async #whileTurnIs(turn: number): Promise<void> {
    while (Atomics.load(this.#words, Word.TURN) === turn) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#hearWhenNot(turn);
      });
    }
    // Why is said last.
    if (Atomics.load(this.#words, Word.TURN) === Turn.QUIT) await this.#gone;
    this.#expectAlive();
  }

  /** Wakes who awaits the thread: now, or as soon as the turn is another one. */
  #hearWhenNot(turn: number): void {
    // In this order: the thread changes the turn first and looks then whether that is awaited.
    Atomics.store(this.#words, Word.AWAITED, 1);
    if (Atomics.load(this.#words, Word.TURN) === turn) return;
    Atomics.store(this.#words, Word.AWAITED, 0);
    this.#wake?.();
  }

  #expectAlive(): void {
    if (this.#failure !== undefined)
      throw new NorthbridgeError("NB_BACKEND", `the vCPU's thread failed: ${this.#failure.message}`, {
        cause: this.#failure,
      });
  }
}
