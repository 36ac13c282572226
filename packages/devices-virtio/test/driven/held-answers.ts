/**
 * Operations of a host that takes its time: while it holds answers back they come when they are asked for, in any order,
 * and some of them are failures.
 */
export class HeldAnswers {
  isHolding = true;
  readonly #held: ((isFailed: boolean) => void)[] = [];

  /** Operations under way. */
  get count(): number {
    return this.#held.length;
  }

  /** @param carryOut what the operation does, at the moment it ends; whether it fails or not */
  operation(carryOut: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (isFailed: boolean): void => {
        try {
          carryOut();
          if (isFailed) throw new Error("EIO");
          resolve();
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      if (this.isHolding) this.#held.push(end);
      else end(false);
    });
  }

  /** Ends one of the operations under way. */
  answer(choice: number): void {
    const [end] = this.#held.splice(choice % Math.max(1, this.#held.length), 1);
    end?.(choice % 5 === 0);
  }

  /** Ends all of them, and whatever comes of that, in an order of `choice`'s. */
  async answerAll(choice: number): Promise<void> {
    await settle(); // some begin late
    for (let each = choice; this.#held.length > 0; each += 7) {
      this.answer(each);
      await settle();
    }
  }
}

/** What a host does with its answers: holds them back from now on, or no longer, or gives one. */
export function hold(answers: HeldAnswers, choice: number): void {
  if (choice % 4 === 0) answers.isHolding = choice % 16 !== 0;
  else if (choice % 4 === 1) answers.answer(choice);
}

/** Long enough for a request of many parts. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 100; i++) await Promise.resolve();
}
