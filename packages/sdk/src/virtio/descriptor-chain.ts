import type { GuestMemory } from "@northbridge/core/contracts";
import type { RamRanges } from "./ram-ranges.ts";

/** Saved form of a request that the device has taken and not given back. */
export interface ChainStateV1 {
  /** Head (split) or buffer ID (packed). */
  readonly id: number;
  /** Ring slots it takes. */
  readonly slots: number;
  readonly readable: readonly (readonly [gpa: number, length: number])[];
  readonly writable: readonly (readonly [gpa: number, length: number])[];
  /** The device is done with it and wrote so many bytes; it waits for those before it (`IN_ORDER`). */
  readonly done?: number;
}

/**
 * One request of a driver: bytes the device reads, then bytes it writes, scattered over guest memory. Every byte has
 * been checked to be memory. Offsets count from the first readable or the first writable byte; what they name behind
 * the end is not there. Chains are reused: after `push` this object means another request.
 */
export class DescriptorChain {
  id = 0;
  slots = 1;
  /** For the queue: how many requests had been taken before this one. */
  age = 0;
  /** For the queue: bytes written by a device that is done with it, before the driver may see that; -1 before. */
  done = -1;
  /** Bytes in all. */
  readableBytes = 0;
  writableBytes = 0;
  readonly #memory: GuestMemory;
  readonly #ram: RamRanges;
  readonly #gpa: number[] = [];
  readonly #length: number[] = [];
  #count = 0;
  #readable = 0;

  constructor(memory: GuestMemory, ram: RamRanges) {
    this.#memory = memory;
    this.#ram = ram;
  }

  /** For the queue: empties the chain. */
  begin(): void {
    this.id = 0;
    this.slots = 1;
    this.done = -1;
    this.readableBytes = 0;
    this.writableBytes = 0;
    this.#count = 0;
    this.#readable = 0;
  }

  /** For the queue: appends a segment. */
  append(gpa: number, length: number, writable: boolean): void {
    this.#gpa[this.#count] = gpa;
    this.#length[this.#count] = length;
    this.#count++;
    if (writable) {
      this.writableBytes += length;
    } else {
      this.readableBytes += length;
      this.#readable = this.#count;
    }
  }

  get segments(): number {
    return this.#count;
  }

  /** Zero-copy views of `[offset, offset + length)` of the readable bytes. */
  readable(offset = 0, length: number = this.readableBytes - offset): Uint8Array[] {
    return this.#views(0, this.#readable, offset, length);
  }

  /** Zero-copy views of writable bytes. Say `written` once they are filled. */
  writable(offset = 0, length: number = this.writableBytes - offset): Uint8Array[] {
    return this.#views(this.#readable, this.#count, offset, length);
  }

  /** Where the writable bytes are in guest memory. */
  visitWritable(visit: (gpa: number, length: number) => void): void {
    for (let i = this.#readable; i < this.#count; i++) visit(this.#gpa[i] ?? 0, this.#length[i] ?? 0);
  }

  /** Says that the device filled `length` writable bytes from `offset` through views. */
  written(offset: number, length: number): void {
    if (offset < 0) return;
    let skip = offset;
    let left = length;
    for (let i = this.#readable; i < this.#count && left > 0; i++) {
      const size = this.#length[i] ?? 0;
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const part = Math.min(size - skip, left);
      this.#memory.written((this.#gpa[i] ?? 0) + skip, part);
      left -= part;
      skip = 0;
    }
  }

  /** Copies readable bytes. Returns how many there were. */
  read(offset: number, into: Uint8Array): number {
    let done = 0;
    for (const view of this.readable(offset, Math.min(into.length, this.readableBytes - offset))) {
      into.set(view, done);
      done += view.length;
    }
    return done;
  }

  /** Copies to writable bytes. Returns how many fitted. */
  write(offset: number, from: Uint8Array): number {
    let done = 0;
    for (const view of this.writable(offset, Math.min(from.length, this.writableBytes - offset))) {
      view.set(done === 0 && view.length === from.length ? from : from.subarray(done, done + view.length));
      done += view.length;
    }
    this.written(offset, done);
    return done;
  }

  /** Little-endian scalars of the readable bytes; zero behind the end, and before the beginning. */
  readU8(offset: number): number {
    if (offset < 0) return 0;
    let skip = offset;
    for (let i = 0; i < this.#readable; i++) {
      const size = this.#length[i] ?? 0;
      if (skip < size) return this.#memory.readU8((this.#gpa[i] ?? 0) + skip);
      skip -= size;
    }
    return 0;
  }

  readU16(offset: number): number {
    return this.readU8(offset) | (this.readU8(offset + 1) << 8);
  }

  readU32(offset: number): number {
    let skip = offset;
    for (let i = 0; i < this.#readable && skip >= 0; i++) {
      const size = this.#length[i] ?? 0;
      if (skip + 4 <= size) return this.#memory.readU32((this.#gpa[i] ?? 0) + skip);
      if (skip < size) break;
      skip -= size;
    }
    return (this.readU16(offset) | (this.readU16(offset + 2) << 16)) >>> 0;
  }

  /** 64 bits as a number: exact up to 2^53, and too large to be an offset of anything beyond. */
  readU64(offset: number): number {
    return this.readU32(offset) + this.readU32(offset + 4) * 2 ** 32;
  }

  /** Writes one byte. False where there is none. */
  writeU8(offset: number, value: number): boolean {
    if (offset < 0) return false;
    let skip = offset;
    for (let i = this.#readable; i < this.#count; i++) {
      const size = this.#length[i] ?? 0;
      if (skip < size) return this.#memory.writeU8((this.#gpa[i] ?? 0) + skip, value);
      skip -= size;
    }
    return false;
  }

  writeU16(offset: number, value: number): boolean {
    return this.writeU8(offset, value & 0xff) && this.writeU8(offset + 1, value >>> 8);
  }

  writeU32(offset: number, value: number): boolean {
    return this.writeU16(offset, value & 0xffff) && this.writeU16(offset + 2, value >>> 16);
  }

  save(): ChainStateV1 {
    const segments = (from: number, to: number): [number, number][] => {
      const list: [number, number][] = [];
      for (let i = from; i < to; i++) list.push([this.#gpa[i] ?? 0, this.#length[i] ?? 0]);
      return list;
    };
    return {
      id: this.id,
      slots: this.slots,
      readable: segments(0, this.#readable),
      writable: segments(this.#readable, this.#count),
      ...(this.done >= 0 && { done: this.done }),
    };
  }

  #views(from: number, to: number, offset: number, length: number): Uint8Array[] {
    const views: Uint8Array[] = [];
    if (offset < 0) return views;
    let skip = offset;
    let left = length;
    for (let i = from; i < to && left > 0; i++) {
      const size = this.#length[i] ?? 0;
      if (skip >= size) {
        skip -= size;
        continue;
      }
      let gpa = (this.#gpa[i] ?? 0) + skip;
      let part = Math.min(size - skip, left);
      left -= part;
      skip = 0;
      while (part > 0) {
        const piece = Math.min(part, this.#ram.room(gpa)); // a segment may cross from one slot into the next
        const view = this.#memory.view(gpa, piece);
        if (view === undefined || piece === 0) return views;
        views.push(view);
        gpa += piece;
        part -= piece;
      }
    }
    return views;
  }
}
