/**
 * How many operations of the host are under way for a device, by the queue that their requests came from. A request costs
 * no promise beyond the host's own.
 */
export class HostOperations {
  readonly #underWay: Uint32Array;
  #waiting: { readonly queue: number | undefined; readonly resolve: () => void }[] = [];

  constructor(queues: number) {
    this.#underWay = new Uint32Array(queues);
  }

  begin(queue: number): void {
    this.#underWay[queue] = (this.#underWay[queue] ?? 0) + 1;
  }

  /** In the same turn nothing of the operation may be left that touches guest memory. */
  end(queue: number): void {
    const left = (this.#underWay[queue] ?? 1) - 1;
    this.#underWay[queue] = left;
    if (left > 0 || this.#waiting.length === 0) return;
    const over = this.#waiting.filter((each) => this.#isOver(each.queue));
    this.#waiting = this.#waiting.filter((each) => !over.includes(each));
    for (const { resolve } of over) resolve();
  }

  /** Resolves once those of a queue are over, or all of them; undefined where they are. */
  over(queue?: number): Promise<void> | undefined {
    if (this.#isOver(queue)) return undefined;
    return new Promise((resolve) => this.#waiting.push({ queue, resolve }));
  }

  #isOver(queue: number | undefined): boolean {
    return queue === undefined ? this.#underWay.every((count) => count === 0) : this.#underWay[queue] === 0;
  }
}
