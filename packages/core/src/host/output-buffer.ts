import type { ByteSink } from "../contracts/index.ts";

const CAPACITY = 16_384;

/** Collects guest output and hands it on in one piece when it is full or the event loop comes round. */
export class OutputBuffer implements ByteSink {
  readonly #hand: (bytes: Uint8Array) => void;
  #bytes = new Uint8Array(CAPACITY);
  #length = 0;
  #isScheduled = false;
  readonly #flush = (): void => {
    this.flush();
  };

  /** @param hand takes a buffer that is its own from then on */
  constructor(hand: (bytes: Uint8Array) => void) {
    this.#hand = hand;
  }

  write(byte: number): void {
    this.#bytes[this.#length++] = byte;
    if (this.#length === CAPACITY) this.flush();
    else if (!this.#isScheduled) {
      this.#isScheduled = true;
      setImmediate(this.#flush);
    }
  }

  flush(): void {
    this.#isScheduled = false;
    if (this.#length === 0) return;
    const whole = this.#bytes.slice(0, this.#length);
    this.#length = 0;
    this.#hand(whole);
  }
}
