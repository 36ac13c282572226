import type { NetBackend } from "../contracts/index.ts";

/** Frames waiting for a guest without buffers; more are lost, as on a wire. */
const MOST_WAITING = 256;

/** A cable plugged into itself: what the guest sends comes back. */
export class LoopbackNet implements NetBackend {
  readonly mtu: number = 1500;
  readonly #waiting: Uint8Array[] = [];
  #receive: ((frame: Uint8Array) => boolean) | undefined;
  /** The guest had no buffer: nothing is offered before it says that it has. */
  #isBlocked = false;
  #isOffering = false;
  #isClosed = false;

  send(frame: readonly Uint8Array[]): boolean {
    if (this.#isClosed) return true;
    if (this.#waiting.length < MOST_WAITING) {
      const whole = new Uint8Array(frame.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of frame) {
        whole.set(part, at);
        at += part.length;
      }
      this.#waiting.push(whole);
    }
    queueMicrotask(() => {
      this.#offer();
    });
    return true;
  }

  connect(receive: (frame: Uint8Array) => boolean): void {
    this.#receive = receive;
    this.#isBlocked = false;
  }

  resume(): void {
    this.#isBlocked = false;
    this.#offer();
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#waiting.length = 0;
    return Promise.resolve();
  }

  #offer(): void {
    if (this.#isOffering || this.#isBlocked || this.#receive === undefined) return;
    this.#isOffering = true;
    for (let frame = this.#waiting[0]; frame !== undefined; frame = this.#waiting[0]) {
      this.#isBlocked = !this.#receive(frame);
      if (this.#isBlocked) break;
      this.#waiting.shift();
    }
    this.#isOffering = false;
  }
}
