import { type ClusterEntry, storeEntry } from "./cluster-map.ts";
import type { Qcow2Metadata } from "./metadata.ts";

/** What an L2 entry becomes once its data are in the file. */
export interface Change {
  readonly cluster: number;
  readonly next: ClusterEntry;
  /** What is free then; nothing where the cluster stays the same. */
  readonly old: ClusterEntry | undefined;
}

/**
 * Guest data on its way to the file, gathered while they are neighbours both in the request and in the file. A write that
 * fails changes no L2 entry: the guest reads what was there before.
 */
export class PendingWrite {
  readonly #meta: Qcow2Metadata;
  readonly #free: (entry: ClusterEntry) => void;
  #hostOffset = 0;
  #from: Uint8Array | undefined;
  #start = 0;
  #length = 0;
  #changes: Change[] = [];
  #next: Change | undefined;

  constructor(meta: Qcow2Metadata, free: (entry: ClusterEntry) => void) {
    this.#meta = meta;
    this.#free = free;
  }

  get isEmpty(): boolean {
    return this.#from === undefined && this.#changes.length === 0;
  }

  add(hostOffset: number, from: Uint8Array, start: number, length: number, change?: Change): void {
    const follows =
      this.#from === from &&
      this.#hostOffset + this.#length === hostOffset &&
      this.#start + this.#length === start;
    if (!follows) {
      this.#next = change;
      this.flush();
      this.#next = undefined;
      this.#hostOffset = hostOffset;
      this.#from = from;
      this.#start = start;
    }
    this.#length += length;
    if (change !== undefined) this.#changes.push(change);
  }

  /** A change whose data the caller writes before {@link flush}. */
  expect(change: Change): void {
    this.#changes.push(change);
  }

  flush(): void {
    if (this.#from !== undefined) {
      this.#meta.writeData(this.#hostOffset, this.#from.subarray(this.#start, this.#start + this.#length));
      this.#from = undefined;
      this.#length = 0;
    }
    let stored = 0;
    try {
      for (const { cluster, next, old } of this.#changes) {
        storeEntry(this.#meta, cluster, next);
        stored += 1;
        if (old !== undefined) this.#free(old);
      }
    } finally {
      this.#changes = this.#changes.slice(stored);
    }
  }

  /** Gives new clusters back that no entry names. */
  giveUp(): void {
    for (const change of [...this.#changes, this.#next]) {
      if (change?.old !== undefined) this.#free(change.next);
    }
    this.#changes = [];
    this.#next = undefined;
  }
}
