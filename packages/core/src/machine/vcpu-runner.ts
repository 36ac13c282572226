import type { Vcpu, VmExit } from "../contracts/index.ts";

/** What to do with a vCPU after one of its exits. */
export type AfterExit = "continue" | "park";

/**
 * Keeps every vCPU running until told to let go. Between `quiesce` and the next `start` no run is pending, so state
 * may be read and written.
 */
export class VcpuRunner {
  readonly #vcpus: readonly Vcpu[];
  readonly #onExit: (vcpu: Vcpu, exit: VmExit) => AfterExit;
  readonly #onFailure: (vcpu: Vcpu, error: unknown) => void;
  #loops: Promise<void>[] = [];
  #isRunning = false;

  constructor(
    vcpus: readonly Vcpu[],
    onExit: (vcpu: Vcpu, exit: VmExit) => AfterExit,
    onFailure: (vcpu: Vcpu, error: unknown) => void,
  ) {
    this.#vcpus = vcpus;
    this.#onExit = onExit;
    this.#onFailure = onFailure;
  }

  /** Only after `quiesce`, or the first time. */
  start(): void {
    this.#isRunning = true;
    this.#loops = this.#vcpus.map((vcpu) => this.#loop(vcpu));
  }

  /** Asks every vCPU to stop soon: callable inside a register handler. */
  release(): void {
    this.#isRunning = false;
    for (const vcpu of this.#vcpus) vcpu.kick();
  }

  /** Resolves when no run is pending. */
  async quiesce(): Promise<void> {
    this.release();
    await Promise.all(this.#loops);
    this.#loops = [];
  }

  async #loop(vcpu: Vcpu): Promise<void> {
    try {
      while (this.#isRunning) {
        const exit = await vcpu.run();
        if (this.#onExit(vcpu, exit) === "park") return;
      }
    } catch (error) {
      this.#onFailure(vcpu, error);
    }
  }
}
