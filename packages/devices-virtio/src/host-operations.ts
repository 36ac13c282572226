/** Operations of the host that are under way for a device, by the queue that their requests came from. */
export class HostOperations {
  readonly #byQueue: readonly Set<Promise<void>>[];

  constructor(queues: number) {
    this.#byQueue = Array.from({ length: queues }, () => new Set());
  }

  /** @param operation never rejects, and resolves once nothing of it touches guest memory any more */
  add(queue: number, operation: Promise<void>): void {
    const all = this.#byQueue[queue];
    all?.add(operation);
    void operation.then(() => all?.delete(operation));
  }

  /** Resolves once those of a queue are over, or all of them; undefined where they are. */
  over(queue?: number): Promise<void> | undefined {
    const under = this.#byQueue.flatMap((all, index) =>
      queue === undefined || queue === index ? [...all] : [],
    );
    return under.length === 0 ? undefined : Promise.all(under).then(() => undefined);
  }
}
