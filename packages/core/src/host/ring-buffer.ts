import type { CharBackend } from "../contracts/index.ts";
import { InputQueue } from "./input-queue.ts";

const DEFAULT_CAPACITY = 65_536;

/** A character back end in memory: keeps the last of what the guest wrote, and feeds it what `send` is given. */
export class RingBufferBackend implements CharBackend {
  readonly #ring: Uint8Array;
  readonly #input = new InputQueue();
  #written = 0;

  /** @param capacity bytes of output kept */
  constructor(capacity: number = DEFAULT_CAPACITY) {
    this.#ring = new Uint8Array(capacity);
  }

  write(byte: number): void {
    this.#ring[this.#written++ % this.#ring.length] = byte;
  }

  connect(receive: (bytes: Uint8Array) => number): void {
    this.#input.connect(receive);
  }

  resume(): void {
    this.#input.resume();
  }

  /** Types text or bytes at the guest. */
  send(input: string | Uint8Array): void {
    this.#input.push(typeof input === "string" ? new TextEncoder().encode(input) : input);
  }

  /** The last bytes written, oldest first. */
  bytes(): Uint8Array {
    const { length } = this.#ring;
    if (this.#written <= length) return this.#ring.slice(0, this.#written);
    const start = this.#written % length;
    const bytes = new Uint8Array(length);
    bytes.set(this.#ring.subarray(start));
    bytes.set(this.#ring.subarray(0, start), length - start);
    return bytes;
  }

  /** The last bytes written, as text. */
  text(): string {
    return new TextDecoder().decode(this.bytes());
  }
}
