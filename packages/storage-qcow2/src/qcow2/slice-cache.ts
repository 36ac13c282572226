import type { BarrierFile } from "../file/barrier-file.ts";

/** Part of a table of the file, held in memory. */
export interface Slice {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  dirty: boolean;
  usedAt: number;
}

/** A write-back cache of tables in slices. It never writes by itself: its owner knows the order. */
export class SliceCache {
  readonly sliceBytes: number;
  readonly #file: BarrierFile;
  readonly #limit: number;
  readonly #slices = new Map<number, Slice>();
  readonly #dirty = new Set<Slice>();
  #last: Slice | undefined;
  #clock = 0;

  constructor(file: BarrierFile, sliceBytes: number, limitBytes: number) {
    this.#file = file;
    this.sliceBytes = sliceBytes;
    this.#limit = Math.max(16, Math.floor(limitBytes / sliceBytes));
  }

  get dirtyCount(): number {
    return this.#dirty.size;
  }

  /** True when the owner should write back before it dirties more. */
  get isFullOfDirty(): boolean {
    return this.#dirty.size >= this.#limit - 8;
  }

  /** The slice at `offset`, a multiple of the slice's size. */
  at(offset: number): Slice {
    if (this.#last?.offset === offset) return this.#last;
    let slice = this.#slices.get(offset);
    if (slice === undefined) {
      if (this.#slices.size >= this.#limit) this.#evict();
      const bytes = new Uint8Array(this.sliceBytes);
      this.#file.file.read(offset, bytes);
      slice = { offset, bytes, view: new DataView(bytes.buffer), dirty: false, usedAt: 0 };
      this.#slices.set(offset, slice);
    }
    slice.usedAt = this.#clock += 1;
    this.#last = slice;
    return slice;
  }

  markDirty(slice: Slice): void {
    if (slice.dirty) return;
    slice.dirty = true;
    this.#dirty.add(slice);
  }

  /** Writes every dirty slice. Those that could not be written stay dirty. */
  writeDirty(): void {
    for (const slice of this.#dirty) {
      this.#file.write(slice.offset, slice.bytes);
      slice.dirty = false;
      this.#dirty.delete(slice);
    }
  }

  /** Forgets what it holds of a range whose content changed or no longer is a table. */
  drop(offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += this.sliceBytes) {
      const slice = this.#slices.get(at);
      if (slice === undefined) continue;
      this.#dirty.delete(slice);
      this.#slices.delete(at);
      if (this.#last === slice) this.#last = undefined;
    }
  }

  #evict(): void {
    const clean = [...this.#slices.values()].filter((slice) => !slice.dirty);
    clean.sort((a, b) => a.usedAt - b.usedAt);
    for (const slice of clean.slice(0, Math.ceil(clean.length / 4))) {
      this.#slices.delete(slice.offset);
      if (this.#last === slice) this.#last = undefined;
    }
  }
}
