import type { MachineConfig, PowerControl, StopReason } from "../contracts/index.ts";

/** Who carries out what the guest asks for. */
export interface PowerListener {
  onStop(reason: StopReason): void;
  onRestart(): void;
  onPause(reason: string): void;
  /** Code of a device threw: the machine cannot be trusted any more. */
  onFault(fault: unknown): void;
}

/** The guest's wishes about its power, as devices pass them on from inside register accesses. */
export class PowerRequests implements PowerControl {
  readonly #onReset: NonNullable<MachineConfig["onReset"]>;
  #listener: PowerListener | undefined;
  /** A guest that asked for a reset keeps executing for a moment and may ask again. */
  #isResetting = false;
  #panicking: string | undefined;

  constructor(onReset: NonNullable<MachineConfig["onReset"]>) {
    this.#onReset = onReset;
  }

  listen(listener: PowerListener): void {
    this.#listener = listener;
  }

  /** The reset is done: the next request is a new one. */
  rearm(): void {
    this.#isResetting = false;
  }

  powerOff(): void {
    this.#listener?.onStop({ kind: "powerOff" });
  }

  reset(): void {
    if (this.#panicking !== undefined) {
      this.panic(this.#panicking);
      return;
    }
    if (this.#onReset === "stop") {
      this.#listener?.onStop({ kind: "reset" });
      return;
    }
    if (this.#isResetting) return;
    this.#isResetting = true;
    this.#listener?.onRestart();
  }

  fault(fault: unknown): void {
    this.#listener?.onFault(fault);
  }

  /** The guest has begun to panic: a reset it asks for now is the end of that (Linux, `panic=-1`). */
  panicBegins(detail: string): void {
    this.#panicking = detail;
  }

  /** What looked like a panic was none: a reset is one again. */
  panicWithdrawn(): void {
    this.#panicking = undefined;
  }

  panic(detail: string): void {
    this.#listener?.onStop({ kind: "panic", detail });
  }

  pause(reason: string): void {
    this.#listener?.onPause(reason);
  }
}
