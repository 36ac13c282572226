import type { ByteSource } from "../contracts/index.ts";

/** Bytes on their way to a device that may have no room for them. */
export class InputQueue implements ByteSource {
  readonly #onLevel: (bytes: number) => void;
  #receive: ((bytes: Uint8Array) => number) | undefined;
  #chunks: Uint8Array[] = [];
  #length = 0;
  #isOffering = false;

  /** @param onLevel hears how many bytes wait, after every change: a stream stops reading when there are many */
  constructor(onLevel: (bytes: number) => void = () => undefined) {
    this.#onLevel = onLevel;
  }

  /** Bytes that no device has taken yet. */
  get length(): number {
    return this.#length;
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push(bytes);
    this.#length += bytes.length;
    this.#offer();
  }

  connect(receive: (bytes: Uint8Array) => number): void {
    this.#receive = receive;
    this.#offer();
  }

  resume(): void {
    this.#offer();
  }

  #offer(): void {
    // A device may call `resume` from inside `receive`: the loop below sees the room it made.
    if (this.#receive === undefined || this.#isOffering) return;
    this.#isOffering = true;
    for (let chunk = this.#chunks[0]; chunk !== undefined; chunk = this.#chunks[0]) {
      const taken = Math.min(this.#receive(chunk), chunk.length);
      if (taken <= 0) break;
      this.#length -= taken;
      if (taken === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(taken);
    }
    this.#isOffering = false;
    this.#onLevel(this.#length);
  }
}
