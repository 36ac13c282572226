import type { NetBackend } from "@northbridge/core/contracts";

/** A link that keeps what is sent, delivers what the test says, and is full when the test says so. */
export class FakeNet implements NetBackend {
  readonly mtu: number;
  /** Frames that the device sent, oldest first. */
  readonly sent: Uint8Array[] = [];
  isClosed = false;
  #isFull = false;
  #receive: ((frame: Uint8Array) => boolean) | undefined;
  #onWritable: (() => void) | undefined;
  /** The device had no buffer: nothing is offered before it says that it has. */
  #isBlocked = false;
  readonly #held: Uint8Array[] = [];

  constructor(mtu = 1500) {
    this.mtu = mtu;
  }

  /** Frames that the device has not taken yet. */
  get waiting(): number {
    return this.#held.length;
  }

  set isFull(isFull: boolean) {
    const wasFull = this.#isFull;
    this.#isFull = isFull;
    if (wasFull && !isFull) this.#onWritable?.();
  }

  send(frame: readonly Uint8Array[]): boolean {
    if (this.#isFull || this.isClosed) return false;
    const bytes = new Uint8Array(frame.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of frame) {
      bytes.set(part, at);
      at += part.length;
    }
    this.sent.push(bytes);
    return true;
  }

  connect(receive: (frame: Uint8Array) => boolean, onWritable: () => void): void {
    this.#receive = receive;
    this.#onWritable = onWritable;
    this.resume();
  }

  resume(): void {
    this.#isBlocked = false;
    this.#offer();
  }

  /** A frame arrives; it waits until the device has a buffer, and has said so. */
  deliver(frame: Uint8Array): void {
    if (this.isClosed) return;
    this.#held.push(frame);
    this.#offer();
  }

  close(): Promise<void> {
    this.isClosed = true;
    this.#held.length = 0;
    return Promise.resolve();
  }

  #offer(): void {
    if (this.#isBlocked || this.#receive === undefined) return;
    for (let frame = this.#held[0]; frame !== undefined; frame = this.#held[0]) {
      this.#isBlocked = !this.#receive(frame);
      if (this.#isBlocked) return;
      this.#held.shift();
    }
  }
}
