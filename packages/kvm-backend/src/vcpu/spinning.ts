import { Turn, Word } from "./mailbox.ts";

/** After waiting in vain, so many waits are of the cheaper kind (docs/adr/0012, 0044). */
export const CALM = 16;

/**
 * Looks at the mailbox before the machine thread sleeps. After looking in vain it does not look for a while: the vCPU's
 * thread may need this one's processor, or its guest may not be about to leave.
 */
export class Spinning {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #looks: number;
  #calm = 0;

  /** @param looks of some 5 ns each */
  constructor(words: Int32Array<SharedArrayBuffer>, looks: number) {
    this.#words = words;
    this.#looks = looks;
  }

  /** Whether the guest is back, as far as it looks. */
  isBack(): boolean {
    if (this.#calm > 0) {
      this.#calm--;
      return false;
    }
    for (let i = 0; i < this.#looks; i++) {
      const turn = Atomics.load(this.#words, Word.TURN);
      if (turn !== Turn.GUEST) return turn === Turn.MACHINE;
    }
    this.#calm = CALM;
    return false;
  }
}
