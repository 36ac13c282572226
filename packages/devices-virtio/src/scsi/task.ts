import type { DescriptorChain, VirtQueue } from "@northbridge/sdk/virtio";

/** A command whose host operation is under way. */
export interface Task {
  readonly queue: VirtQueue;
  readonly queueIndex: number;
  readonly chain: DescriptorChain;
  readonly target: number;
  /** The driver's name for it: `id`, words low and high. */
  readonly idLow: number;
  readonly idHigh: number;
  /** Ended by task management: the response the driver gets in place of its result. */
  ended: number | undefined;
  /** Settles once the host operation is over and the command has ended. Never rejects. */
  done: Promise<void>;
}

/** The commands under way. */
export class TaskSet implements Iterable<Task> {
  readonly #tasks = new Set<Task>();

  get size(): number {
    return this.#tasks.size;
  }

  add(task: Task): void {
    this.#tasks.add(task);
  }

  delete(task: Task): void {
    this.#tasks.delete(task);
  }

  find(target: number, idLow: number, idHigh: number): Task | undefined {
    for (const task of this.#tasks) {
      if (task.target === target && task.idLow === idLow && task.idHigh === idHigh) return task;
    }
    return undefined;
  }

  of(target: number): Task[] {
    return [...this.#tasks].filter((task) => task.target === target);
  }

  /** Resolves once these are over; undefined where they are. */
  over(tasks: Iterable<Task> = this.#tasks): Promise<void> | undefined {
    const done = Array.from(tasks, (task) => task.done);
    return done.length === 0 ? undefined : Promise.all(done).then(() => undefined);
  }

  [Symbol.iterator](): Iterator<Task> {
    return this.#tasks.values();
  }
}
