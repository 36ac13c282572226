interface Change {
  readonly start: number;
  readonly end: number;
  readonly isPartial: boolean;
  readonly done: Promise<void>;
}

/**
 * The order of the clients' changes to one disk. A change that has only part of a block is read, put together and
 * written: it and every other change of its blocks happen one after the other, or what another client wrote in between
 * would be lost. Changes of whole blocks wait for nobody else.
 */
export class BlockOrder {
  readonly #blockSize: number;
  readonly #underWay = new Set<Change>();

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
  }

  /** Changes bytes once every earlier change is done that must not happen at the same time. */
  async change(offset: number, length: number, act: () => Promise<void>): Promise<void> {
    const block = this.#blockSize;
    const start = Math.floor(offset / block) * block;
    const end = Math.ceil((offset + length) / block) * block;
    const isPartial = start !== offset || end !== offset + length;
    const before: Promise<void>[] = [];
    for (const other of this.#underWay) {
      const overlaps = other.start < end && start < other.end;
      if (overlaps && (isPartial || other.isPartial)) before.push(other.done);
    }
    let finish = (): void => undefined;
    const done = new Promise<void>((resolve) => (finish = resolve));
    const change = { start, end, isPartial, done };
    this.#underWay.add(change);
    try {
      if (before.length > 0) await Promise.all(before);
      await act();
    } finally {
      this.#underWay.delete(change);
      finish();
    }
  }
}
