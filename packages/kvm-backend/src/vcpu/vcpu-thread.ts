import { SHARE_ENV, Worker } from "node:worker_threads";
import { EventFd, FdWatch, interruptOn, signalThread } from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";
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

const isSource = import.meta.url.endsWith(".ts");
/** Beside this file in the sources; beside the bundle in the package. */
const WORKER = new URL(isSource ? "./vcpu-worker.ts" : "./vcpu-worker.js", import.meta.url);

/** The machine thread's end of one vCPU's thread. */
export class VcpuThread {
  readonly #worker: Worker;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #gone: Promise<void>;
  readonly #event = new EventFd();
  readonly #watch: FdWatch;
  #failure: Error | undefined;
  /** Wakes who awaits the thread. */
  #wake: (() => void) | undefined;

  /** Starts the thread, which takes some tens of milliseconds: `attach` waits for it. */
  constructor(name: string) {
    interruptOn(KICK_SIGNAL);
    const shared = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT);
    const words = new Int32Array(shared);
    const workerData: ThreadData = { words: shared, name, event: this.#event.fd };
    const worker = new Worker(WORKER, {
      workerData,
      env: SHARE_ENV,
      trackUnmanagedFds: false,
      ...(isSource && { execArgv: ["--conditions=northbridge-source", "--no-warnings"] }),
    });
    this.#worker = worker;
    this.#words = words;
    this.#watch = new FdWatch(this.#event.fd, () => {
      this.#event.drain();
      this.#wake?.();
    });
    // The thread itself keeps the process.
    this.#watch.unref();
    worker.on("error", (error) => {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      Atomics.store(words, Word.TURN, Turn.QUIT);
      this.#wake?.();
    });
    this.#gone = new Promise((resolve) => {
      worker.once("exit", () => {
        this.#watch.close();
        this.#event.close();
        resolve();
      });
    });
  }

  /** Gives the thread its vCPU; resolves when it can be handed turns. Throws `NB_BACKEND`. */
  async attach(vcpu: Omit<VcpuMail, "kind">): Promise<void> {
    this.#send({ kind: "vcpu", ...vcpu });
    await this.#whileTurnIs(Turn.STARTING);
    this.#expectAlive();
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

  /** Whether the guest is back after at most `spins` looks: for exits that follow each other closely. */
  isBackWithin(spins: number): boolean {
    for (let i = 0; i < spins; i++) if (!this.isInGuest) return true;
    return false;
  }

  async exited(): Promise<void> {
    await this.#whileTurnIs(Turn.GUEST);
    this.#expectAlive();
  }

  /** Interrupts KVM_RUN. The caller has set `kvm_run.immediate_exit`: the thread may not have got there yet. */
  interrupt(): void {
    signalThread(this.tid, KICK_SIGNAL);
  }

  /**
   * Interrupts KVM_RUN and blocks until the guest is back, at most so long. Whoever awaits the exit goes on with the
   * next microtask. Returns whether it is back.
   */
  interruptAndWait(patienceMs: number): boolean {
    // The event loop need not hear of it.
    Atomics.store(this.#words, Word.AWAITED, 0);
    this.interrupt();
    Atomics.wait(this.#words, Word.TURN, Turn.GUEST, patienceMs);
    this.#hearWhenNot(Turn.GUEST);
    return !this.isInGuest;
  }

  /** Only while it is the machine thread's turn, or before the first one. */
  async stop(): Promise<void> {
    Atomics.store(this.#words, Word.TURN, Turn.QUIT);
    Atomics.notify(this.#words, Word.TURN);
    await this.#gone;
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
