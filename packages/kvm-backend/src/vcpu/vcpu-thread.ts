import { Worker } from "node:worker_threads";
import { interruptOn, signalThread } from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";
import { KICK_SIGNAL, type ThreadData, Turn, Word, WORDS } from "./mailbox.ts";

const isSource = import.meta.url.endsWith(".ts");
/** Beside this file in the sources; beside the bundle in the package. */
const WORKER = new URL(isSource ? "./vcpu-worker.ts" : "./vcpu-worker.js", import.meta.url);

/** The machine thread's end of one vCPU's thread. */
export class VcpuThread {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #gone: Promise<void>;
  #failure: Error | undefined;

  private constructor(worker: Worker, words: Int32Array<SharedArrayBuffer>) {
    this.#words = words;
    worker.on("error", (error) => {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      Atomics.store(words, Word.TURN, Turn.QUIT);
      Atomics.notify(words, Word.TURN);
    });
    this.#gone = new Promise((resolve) => {
      worker.once("exit", () => {
        resolve();
      });
    });
  }

  /** Starts the thread; resolves when it can be handed turns. Throws `NB_BACKEND`. */
  static async start(fd: number, name: string): Promise<VcpuThread> {
    interruptOn(KICK_SIGNAL);
    const shared = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT);
    const workerData: ThreadData = { words: shared, fd, name };
    const worker = new Worker(WORKER, {
      workerData,
      ...(isSource && { execArgv: ["--conditions=northbridge-source", "--no-warnings"] }),
    });
    const thread = new VcpuThread(worker, new Int32Array(shared));
    await thread.#whileTurnIs(Turn.STARTING);
    thread.#expectAlive();
    return thread;
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

  /** Only while it is the machine thread's turn. */
  async stop(): Promise<void> {
    Atomics.store(this.#words, Word.TURN, Turn.QUIT);
    Atomics.notify(this.#words, Word.TURN);
    await this.#gone;
  }

  async #whileTurnIs(turn: number): Promise<void> {
    while (Atomics.load(this.#words, Word.TURN) === turn) {
      const waiting = Atomics.waitAsync(this.#words, Word.TURN, turn);
      if (waiting.async) await waiting.value;
    }
  }

  #expectAlive(): void {
    if (this.#failure !== undefined)
      throw new NorthbridgeError("NB_BACKEND", `the vCPU's thread failed: ${this.#failure.message}`, {
        cause: this.#failure,
      });
  }
}
