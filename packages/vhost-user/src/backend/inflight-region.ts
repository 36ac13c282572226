import type { QueueJournal } from "@northbridge/sdk/virtio";

/**
 * What a split queue's device has taken and not yet used, in memory that outlives this process (vhost-user: Inflight
 * I/O tracking). The front end may have written anything into it: every index is checked.
 */
const Field = { VERSION: 8, DESC_NUM: 10, LAST_BATCH_HEAD: 12, USED_IDX: 14, LENGTH: 16 } as const;
const State = { INFLIGHT: 0, NEXT: 6, COUNTER: 8, LENGTH: 16 } as const;
const VERSION = 1;
const ALIGNMENT = 64;
const WORD = 2 ** 32;

/** Notes of one queue, in memory that may outlive this process. */
export interface Inflight extends QueueJournal {
  /**
   * How many slots the requests take that were taken last, if no other is in flight: they can be taken again by going
   * back in the ring. Undefined where one is in flight that later ones overtook.
   */
  rewindable(): number | undefined;
}

/** Bytes one queue of `size` descriptors takes. */
export const inflightLength = (size: number): number =>
  Math.ceil((Field.LENGTH + State.LENGTH * size) / ALIGNMENT) * ALIGNMENT;

export class InflightRegion implements Inflight {
  readonly #data: DataView;
  readonly #size: number;
  /** In the used ring, which does not show them yet. */
  readonly #batch: number[] = [];
  #counter = 0;

  /** @param bytes at least `inflightLength(size)` */
  constructor(bytes: Uint8Array, size: number) {
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#size = size;
  }

  /** Of a queue nobody outlives: not shared. */
  static own(size: number): InflightRegion {
    return new InflightRegion(new Uint8Array(inflightLength(size)), size);
  }

  /**
   * The heads to be taken again, oldest first, of a queue whose used index is `usedIdx`: none where the region is new.
   * Finishes a batch whose device died between showing it and noting so.
   */
  recover(usedIdx: number): readonly number[] {
    const data = this.#data;
    if (
      data.getUint16(Field.VERSION, true) !== VERSION ||
      data.getUint16(Field.DESC_NUM, true) !== this.#size
    ) {
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength).fill(0);
      data.setUint16(Field.DESC_NUM, this.#size, true);
      data.setUint16(Field.USED_IDX, usedIdx, true);
      data.setUint16(Field.VERSION, VERSION, true);
      return [];
    }
    const unnoted = (usedIdx - data.getUint16(Field.USED_IDX, true)) & 0xffff;
    let head = data.getUint16(Field.LAST_BATCH_HEAD, true);
    for (let i = 0; i < unnoted && head < this.#size; i++) {
      data.setUint8(this.#at(head) + State.INFLIGHT, 0);
      head = data.getUint16(this.#at(head) + State.NEXT, true);
    }
    data.setUint16(Field.USED_IDX, usedIdx, true);
    const heads = this.#inFlight();
    const last = heads.at(-1);
    this.#counter = last === undefined ? 0 : this.#counterOf(last) + 1;
    return heads;
  }

  taken({ id }: { readonly id: number }): void {
    const at = this.#at(id);
    if (this.#data.getUint8(at + State.INFLIGHT) === 1) return; // found here, and taken again
    this.#data.setUint32(at + State.COUNTER, this.#counter % WORD, true);
    this.#data.setUint32(at + State.COUNTER + 4, Math.floor(this.#counter / WORD), true);
    this.#counter++;
    this.#data.setUint8(at + State.INFLIGHT, 1);
  }

  using({ id }: { readonly id: number }): void {
    this.#data.setUint16(this.#at(id) + State.NEXT, this.#data.getUint16(Field.LAST_BATCH_HEAD, true), true);
    this.#data.setUint16(Field.LAST_BATCH_HEAD, id, true);
    this.#batch.push(id);
  }

  /** The index is written when they are shown: this is not the moment. */
  used(): void {
    // Nothing is to be noted.
  }

  shown(): void {
    for (const head of this.#batch) this.#data.setUint8(this.#at(head) + State.INFLIGHT, 0);
    const usedIdx = this.#data.getUint16(Field.USED_IDX, true) + this.#batch.length;
    this.#data.setUint16(Field.USED_IDX, usedIdx, true);
    this.#batch.length = 0;
  }

  /** Each takes one slot of the available ring. */
  rewindable(): number | undefined {
    const heads = this.#inFlight();
    const oldest = heads[0];
    if (oldest === undefined) return 0;
    return this.#counter - this.#counterOf(oldest) === heads.length ? heads.length : undefined;
  }

  #inFlight(): number[] {
    const heads: number[] = [];
    for (let head = 0; head < this.#size; head++) {
      if (this.#data.getUint8(this.#at(head) + State.INFLIGHT) === 1) heads.push(head);
    }
    return heads.sort((a, b) => this.#counterOf(a) - this.#counterOf(b));
  }

  #counterOf(head: number): number {
    const at = this.#at(head) + State.COUNTER;
    return this.#data.getUint32(at, true) + this.#data.getUint32(at + 4, true) * WORD;
  }

  #at(head: number): number {
    return Field.LENGTH + State.LENGTH * head;
  }
}
