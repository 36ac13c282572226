import type { GuestMemory } from "@northbridge/sdk";
import { type ChainStateV1, type QueueStateV1, virtioSpec } from "@northbridge/sdk/virtio";
import type { Inflight } from "./inflight-region.ts";

const { Desc, DescFlag, MAX_SEGMENTS } = virtioSpec;

/**
 * What a packed queue's device has taken and not yet used (vhost-user: Inflight I/O tracking). The ring's descriptors
 * are overwritten by what is used out of order: the region has copies of them. The front end may have written anything
 * into it: every index is checked, every address when the queue opens.
 */
const Field = {
  VERSION: 8,
  DESC_NUM: 10,
  FREE_HEAD: 12,
  OLD_FREE_HEAD: 14,
  USED_IDX: 16,
  OLD_USED_IDX: 18,
  USED_WRAP: 20,
  OLD_USED_WRAP: 21,
  LENGTH: 32,
} as const;
const State = {
  INFLIGHT: 0,
  NEXT: 2,
  LAST: 4,
  NUM: 6,
  COUNTER: 8,
  ID: 16,
  FLAGS: 18,
  LEN: 20,
  ADDR: 24,
  LENGTH: 32,
} as const;
const VERSION = 1;
const ALIGNMENT = 64;
const WORD = 2 ** 32;
const WRAP = 0x8000;

/** Bytes one packed queue of `size` descriptors takes. */
export const packedInflightLength = (size: number): number =>
  Math.ceil((Field.LENGTH + State.LENGTH * size) / ALIGNMENT) * ALIGNMENT;

/** Where the ring is. */
export interface PackedPlace {
  readonly memory: GuestMemory;
  readonly gpa: number;
}

export class PackedInflightRegion implements Inflight {
  /** It may move with the front end's memory. */
  place: PackedPlace;
  readonly #data: DataView;
  readonly #size: number;
  /** By buffer ID: its first entry here. */
  readonly #heads = new Map<number, number>();
  /** Slot of the ring from which the next request comes. */
  #avail = 0;
  #counter = 0;

  /** @param bytes at least `packedInflightLength(size)` */
  constructor(bytes: Uint8Array, size: number, place: PackedPlace) {
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#size = size;
    this.place = place;
  }

  /** Of a queue nobody outlives: not shared. */
  static own(size: number, place: PackedPlace): PackedInflightRegion {
    return new PackedInflightRegion(new Uint8Array(packedInflightLength(size)), size, place);
  }

  /**
   * Where a queue goes on, and what comes out of it again, oldest first: from `start` where the region is new. Finishes
   * or forgets a request whose device died while it was used.
   */
  recover(start: { readonly lastAvail: number; readonly lastUsed: number }): QueueStateV1 {
    const data = this.#data;
    const isKnown =
      data.getUint16(Field.VERSION, true) === VERSION &&
      data.getUint16(Field.DESC_NUM, true) === this.#size &&
      data.getUint16(Field.USED_IDX, true) < this.#size &&
      data.getUint16(Field.OLD_USED_IDX, true) < this.#size;
    if (!isKnown) this.#begin(start.lastUsed);
    else this.#settle();
    const heads = this.#inFlight();
    this.#heads.clear();
    const inFlight = heads.map((head) => this.#chain(head));
    inFlight.forEach(({ id }, i) => this.#heads.set(id, heads[i] ?? 0));
    this.#rebuildFreeList(heads);
    const last = heads.at(-1);
    this.#counter = last === undefined ? 0 : this.#counterOf(last) + 1;
    const wrap = data.getUint8(Field.USED_WRAP) === 0 ? 0 : WRAP;
    const lastUsed = data.getUint16(Field.USED_IDX, true) | wrap;
    // Every slot behind the used ones is of a request in flight, up to the next available one.
    const slots = inFlight.reduce((sum, chain) => sum + chain.slots, 0);
    const lastAvail = isKnown ? this.#behind(lastUsed, slots) : start.lastAvail;
    this.#avail = lastAvail & (WRAP - 1);
    return { lastAvail, lastUsed, inFlight };
  }

  taken({ id, slots }: { readonly id: number; readonly slots: number }): void {
    const data = this.#data;
    const head = this.#index(Field.FREE_HEAD);
    let [entry, last] = [head, head];
    for (let i = 0; i < slots; i++) {
      this.#copy((this.#avail + i) % this.#size, entry);
      last = entry;
      entry = this.#index(this.#at(entry) + State.NEXT);
    }
    const at = this.#at(head);
    data.setUint16(at + State.LAST, last, true);
    data.setUint16(at + State.NUM, slots, true);
    data.setUint32(at + State.COUNTER, this.#counter % WORD, true);
    data.setUint32(at + State.COUNTER + 4, Math.floor(this.#counter / WORD), true);
    this.#counter++;
    data.setUint8(at + State.INFLIGHT, 1);
    data.setUint16(Field.FREE_HEAD, entry, true);
    data.setUint16(Field.OLD_FREE_HEAD, entry, true);
    this.#heads.set(id, head);
    this.#avail = (this.#avail + slots) % this.#size;
  }

  using({ id, slots }: { readonly id: number; readonly slots: number }): void {
    const data = this.#data;
    const head = this.#heads.get(id);
    if (head === undefined) return;
    const last = this.#index(this.#at(head) + State.LAST);
    data.setUint16(this.#at(last) + State.NEXT, data.getUint16(Field.FREE_HEAD, true), true);
    data.setUint16(Field.FREE_HEAD, head, true);
    const wrap = data.getUint8(Field.USED_WRAP) === 0 ? 0 : WRAP;
    const next = this.#behind(data.getUint16(Field.USED_IDX, true) | wrap, slots);
    data.setUint8(Field.USED_WRAP, next >> 15);
    data.setUint16(Field.USED_IDX, next & (WRAP - 1), true);
  }

  used({ id }: { readonly id: number }): void {
    const head = this.#heads.get(id);
    if (head === undefined) return;
    this.#heads.delete(id);
    this.#note(head);
  }

  shown(): void {
    // A packed ring shows each as it is used.
  }

  rewindable(): number | undefined {
    const heads = this.#inFlight();
    const [oldest] = heads;
    if (oldest === undefined) return 0;
    if (this.#counter - this.#counterOf(oldest) !== heads.length) return undefined;
    return heads.reduce((sum, head) => sum + this.#slotsOf(head), 0);
  }

  #begin(lastUsed: number): void {
    const data = this.#data;
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength).fill(0);
    data.setUint16(Field.DESC_NUM, this.#size, true);
    for (const at of [Field.USED_IDX, Field.OLD_USED_IDX]) data.setUint16(at, lastUsed & (WRAP - 1), true);
    for (const at of [Field.USED_WRAP, Field.OLD_USED_WRAP]) data.setUint8(at, lastUsed >> 15);
    data.setUint16(Field.VERSION, VERSION, true);
  }

  /** A device died between saying that it uses a request and noting that it has: the ring knows whether it has. */
  #settle(): void {
    const data = this.#data;
    const oldUsed = data.getUint16(Field.OLD_USED_IDX, true);
    if (data.getUint16(Field.USED_IDX, true) === oldUsed) return;
    const { memory, gpa } = this.place;
    const flags = memory.readU16(gpa + Desc.LENGTH * oldUsed + Desc.PACKED_FLAGS);
    const wrap = data.getUint8(Field.OLD_USED_WRAP) !== 0;
    const isMarked = (flags & DescFlag.AVAIL) !== 0;
    const isUsed = (flags & DescFlag.USED) !== 0;
    const head = data.getUint16(Field.FREE_HEAD, true);
    if (isMarked === wrap && isUsed === wrap && head < this.#size) {
      this.#note(head);
      return;
    }
    data.setUint16(Field.FREE_HEAD, data.getUint16(Field.OLD_FREE_HEAD, true), true);
    data.setUint16(Field.USED_IDX, oldUsed, true);
    data.setUint8(Field.USED_WRAP, data.getUint8(Field.OLD_USED_WRAP));
  }

  #note(head: number): void {
    const data = this.#data;
    data.setUint8(this.#at(head) + State.INFLIGHT, 0);
    data.setUint16(Field.OLD_FREE_HEAD, data.getUint16(Field.FREE_HEAD, true), true);
    data.setUint16(Field.OLD_USED_IDX, data.getUint16(Field.USED_IDX, true), true);
    data.setUint8(Field.OLD_USED_WRAP, data.getUint8(Field.USED_WRAP));
  }

  /** Entries that no request has, in a row: what a device that died said of them counts for nothing. */
  #rebuildFreeList(heads: readonly number[]): void {
    const data = this.#data;
    const taken = new Set(heads.flatMap((head) => this.#entries(head)));
    const free = Array.from({ length: this.#size }, (_, entry) => entry).filter((entry) => !taken.has(entry));
    free.forEach((entry, i) => {
      data.setUint16(this.#at(entry) + State.NEXT, free[i + 1] ?? 0, true);
    });
    for (const at of [Field.FREE_HEAD, Field.OLD_FREE_HEAD]) data.setUint16(at, free[0] ?? 0, true);
  }

  /** As the queue saves it. */
  #chain(head: number): ChainStateV1 {
    const readable: [number, number][] = [];
    const writable: [number, number][] = [];
    const entries = this.#entries(head);
    const { memory } = this.place;
    const add = (gpa: number, length: number, flags: number): void => {
      const list = (flags & DescFlag.WRITE) === 0 ? readable : writable;
      if (length > 0 && readable.length + writable.length < MAX_SEGMENTS) list.push([gpa, length]);
    };
    for (const entry of entries) {
      const at = this.#at(entry);
      const gpa =
        this.#data.getUint32(at + State.ADDR, true) + this.#data.getUint32(at + State.ADDR + 4, true) * WORD;
      const length = this.#data.getUint32(at + State.LEN, true);
      const flags = this.#data.getUint16(at + State.FLAGS, true);
      if ((flags & DescFlag.INDIRECT) === 0) add(gpa, length, flags);
      else {
        const count = Math.min(Math.floor(length / Desc.LENGTH), MAX_SEGMENTS);
        for (let i = 0, table = gpa; i < count; i++, table += Desc.LENGTH) {
          const address = memory.readU32(table) + memory.readU32(table + 4) * WORD;
          add(address, memory.readU32(table + Desc.LEN), memory.readU16(table + Desc.PACKED_FLAGS));
        }
      }
    }
    const last = entries.at(-1) ?? head; // its ID counts (virtio 1.3 §2.8.6)
    const id = this.#data.getUint16(this.#at(last) + State.ID, true);
    return { id, slots: entries.length, readable, writable };
  }

  /** The entries of the request at `head`, none twice. */
  #entries(head: number): number[] {
    const entries: number[] = [];
    const slots = this.#slotsOf(head);
    for (let entry = head; entries.length < slots && entry < this.#size && !entries.includes(entry); ) {
      entries.push(entry);
      entry = this.#data.getUint16(this.#at(entry) + State.NEXT, true);
    }
    return entries;
  }

  /** Copies a descriptor of the ring. */
  #copy(slot: number, entry: number): void {
    const { memory, gpa } = this.place;
    const from = gpa + Desc.LENGTH * slot;
    const at = this.#at(entry);
    this.#data.setUint32(at + State.ADDR, memory.readU32(from), true);
    this.#data.setUint32(at + State.ADDR + 4, memory.readU32(from + 4), true);
    this.#data.setUint32(at + State.LEN, memory.readU32(from + Desc.LEN), true);
    this.#data.setUint16(at + State.ID, memory.readU16(from + Desc.PACKED_ID), true);
    this.#data.setUint16(at + State.FLAGS, memory.readU16(from + Desc.PACKED_FLAGS), true);
  }

  #inFlight(): number[] {
    const heads: number[] = [];
    for (let entry = 0; entry < this.#size; entry++) {
      if (this.#data.getUint8(this.#at(entry) + State.INFLIGHT) === 1) heads.push(entry);
    }
    return heads.sort((a, b) => this.#counterOf(a) - this.#counterOf(b));
  }

  #slotsOf(head: number): number {
    return Math.min(this.#data.getUint16(this.#at(head) + State.NUM, true), this.#size);
  }

  #counterOf(head: number): number {
    const at = this.#at(head) + State.COUNTER;
    return this.#data.getUint32(at, true) + this.#data.getUint32(at + 4, true) * WORD;
  }

  /** A position with its wrap counter, so many slots further. */
  #behind(position: number, slots: number): number {
    const at = (position & (WRAP - 1)) + slots;
    const wrap = position & WRAP;
    return at >= this.#size ? (at - this.#size) | (wrap ^ WRAP) : at | wrap;
  }

  /** The number of an entry, which the front end may have changed at any time. */
  #index(at: number): number {
    return this.#data.getUint16(at, true) % this.#size;
  }

  #at(entry: number): number {
    return Field.LENGTH + State.LENGTH * entry;
  }
}
