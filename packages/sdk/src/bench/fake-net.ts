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
    for (let frame = this.#held[0]; frame !== undefined; frame = this.#held[0]) {
      if (this.#receive?.(frame) !== true) return;
      this.#held.shift();
    }
  }

  /** A frame arrives; it waits until the device has a buffer. */
  deliver(frame: Uint8Array): void {
    this.#held.push(frame);
    this.resume();
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}
