import { type Cipheriv, createCipheriv, randomFillSync } from "node:crypto";
import type { ClockKind, EntropySource } from "../contracts/index.ts";

const PIECE = 65_536;
const BLOCK = 16;

/** A key stream (AES-128 in counter mode) that is the same in every run, from any position on. */
export class KeyStream implements EntropySource {
  readonly #zeroes = new Uint8Array(PIECE);
  #stream: Cipheriv = createCipheriv("aes-128-ctr", new Uint8Array(BLOCK), new Uint8Array(BLOCK));
  #position = 0;

  /** Bytes drawn so far. */
  get position(): number {
    return this.#position;
  }

  fill(into: Uint8Array): void {
    for (let at = 0; at < into.length; at += PIECE) {
      into.set(this.#stream.update(this.#zeroes.subarray(0, Math.min(PIECE, into.length - at))), at);
    }
    this.#position += into.length;
  }

  /** Goes on as if so many bytes had been drawn. */
  moveTo(position: number): void {
    const block = Math.floor(position / BLOCK);
    const counter = new Uint8Array(BLOCK);
    const view = new DataView(counter.buffer);
    view.setUint32(8, Math.floor(block / 2 ** 32));
    view.setUint32(12, block >>> 0);
    this.#stream = createCipheriv("aes-128-ctr", new Uint8Array(BLOCK), counter);
    this.#stream.update(this.#zeroes.subarray(0, position % BLOCK));
    this.#position = position;
  }
}

/** The host's random numbers; under a `virtual` clock a key stream that is the same in every run. */
export const createEntropy = (clock: ClockKind | undefined): EntropySource =>
  clock === "virtual" ? new KeyStream() : { fill: (into) => void randomFillSync(into) };
