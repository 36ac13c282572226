import type { Writable } from "node:stream";
import type { ByteStore } from "../tcp/byte-store.ts";

/**
 * The way from a guest to a host's stream. One write is under way at a time; what comes meanwhile fills piece after
 * piece, so that small segments take the memory of their bytes, and a large one is copied once.
 */
export class HostWriter {
  readonly #stream: Writable;
  readonly #store: ByteStore;
  readonly #onWritten: (length: number) => void;
  /** All of them full but the last, which has `used` bytes. */
  #waiting: Uint8Array[] = [];
  #used = 0;
  #length = 0;
  #writing: Uint8Array[] = [];
  #writingLength = 0;
  #isEnding = false;

  /** @param onWritten hears how many bytes the host has taken, or lost with the stream */
  constructor(stream: Writable, store: ByteStore, onWritten: (length: number) => void) {
    this.#stream = stream;
    this.#store = store;
    this.#onWritten = onWritten;
  }

  /** `end` was called, and the stream still owes the host bytes. */
  get isDraining(): boolean {
    return this.#isEnding && !this.#stream.destroyed && !this.#stream.writableFinished;
  }

  /** Takes a copy of `bytes`. */
  write(bytes: Uint8Array): void {
    const last = this.#waiting.at(-1);
    const fitting = last === undefined ? 0 : Math.min(bytes.length, last.length - this.#used);
    if (fitting > 0) last?.set(fitting === bytes.length ? bytes : bytes.subarray(0, fitting), this.#used);
    this.#used += fitting;
    const left = bytes.length - fitting;
    if (left > 0) {
      const piece = this.#store.take(left);
      piece.set(fitting === 0 ? bytes : bytes.subarray(fitting));
      this.#waiting.push(piece);
      this.#used = left;
    }
    this.#length += bytes.length;
    this.#next();
  }

  /** Ends the stream behind what waits. */
  end(): void {
    this.#isEnding = true;
    this.#next();
  }

  #next(): void {
    if (this.#writing.length > 0) return;
    const pieces = this.#waiting;
    const last = pieces.pop();
    if (last === undefined) {
      if (this.#isEnding) this.#stream.end();
      return;
    }
    this.#waiting = this.#writing;
    this.#writing = pieces;
    this.#writingLength = this.#length;
    this.#length = 0;
    const stream = this.#stream;
    if (pieces.length > 0) stream.cork();
    for (const piece of pieces) stream.write(piece);
    pieces.push(last);
    stream.write(this.#used === last.length ? last : last.subarray(0, this.#used), this.#onDone);
    this.#used = 0;
    if (pieces.length > 1) stream.uncork();
  }

  readonly #onDone = (): void => {
    const written = this.#writingLength;
    for (const piece of this.#writing) this.#store.giveBack(piece);
    this.#writing.length = 0;
    this.#next();
    this.#onWritten(written);
  };
}
