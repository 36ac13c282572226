import { ImageError } from "../image-error.ts";
import { Bitmap } from "./bitmap.ts";
import {
  type BitmapEntry,
  BitmapFlag,
  bitmapsExtension,
  encodeBitmapDirectory,
  MAX_BITMAP_BYTES,
  MAX_BITMAP_NAME,
  MAX_BITMAPS,
  readBitmapDirectory,
  withBitmapsExtension,
} from "./bitmap-directory.ts";
import { writeOffset } from "./header.ts";
import type { Qcow2Metadata } from "./metadata.ts";
import { Autoclear, OFFSET_HI, OFFSET_LO } from "./spec.ts";

interface Stored {
  readonly bitmap: Bitmap;
  entry: BitmapEntry | undefined;
  loaded: boolean;
}

/**
 * The persistent dirty bitmaps of an image (docs/interop/qcow2: Bitmaps). While the image is written to, those that
 * follow writes are marked in use in the file, so that a failure makes them invalid, never wrong; {@link store} writes
 * them back.
 */
export class Bitmaps {
  readonly #meta: Qcow2Metadata;
  #stored: Stored[] = [];
  #inUse = false;
  #directoryChanged = false;
  /** What the bits that were read take. */
  #loadedBytes = 0;
  /** Clusters that no bitmap uses once the next directory stands in the file. */
  #waiting: (readonly [offset: number, clusters: number])[] = [];

  private constructor(meta: Qcow2Metadata) {
    this.#meta = meta;
  }

  /** Reads the directory. Bits are read when somebody asks for them. */
  static load(meta: Qcow2Metadata): Bitmaps {
    const bitmaps = new Bitmaps(meta);
    const extension = bitmapsExtension(meta.header, meta.path);
    if (extension === undefined) return bitmaps;
    for (const entry of readBitmapDirectory(meta.file.file, meta.header, extension)) {
      const bitmap = new Bitmap(
        entry.name,
        2 ** entry.granularityBits,
        meta.clusterSize,
        (entry.flags & BitmapFlag.AUTO) !== 0,
        (entry.flags & BitmapFlag.IN_USE) !== 0,
      );
      bitmaps.#stored.push({ bitmap, entry, loaded: false });
    }
    return bitmaps;
  }

  get isEmpty(): boolean {
    return this.#stored.length === 0;
  }

  /** What the directory says, without the bits. */
  list(): readonly Bitmap[] {
    return this.#stored.map(({ bitmap }) => bitmap);
  }

  /** A bitmap with its bits. @throws {@link ImageError} where there is none of that name, or it is inconsistent */
  get(name: string): Bitmap {
    return this.#usable(name).bitmap;
  }

  /** Notes a write in every bitmap that follows writes. */
  touch(offset: number, length: number): void {
    if (!this.#inUse) this.#beginWriting();
    for (const { bitmap } of this.#stored) {
      if (bitmap.isEnabled && !bitmap.isInconsistent) bitmap.mark(offset, length);
    }
  }

  add(name: string, granularity: number): Bitmap {
    const meta = this.#meta;
    const refuse = (message: string): never => {
      throw new ImageError(meta.path, "request", `bitmap '${name}': ${message}`);
    };
    const bits = Math.log2(granularity);
    if (meta.header.version === 2) refuse("version 2 images have no bitmaps");
    if (!Number.isInteger(bits) || bits < 9 || bits > 31) {
      refuse(`the granularity must be a power of two from 512 to 2147483648, found ${granularity}`);
    }
    if (this.#tableSize({ granularity }) * meta.clusterSize > MAX_BITMAP_BYTES)
      refuse(`the disk has too many pieces of ${granularity} bytes`);
    if (name.length === 0 || new TextEncoder().encode(name).length > MAX_BITMAP_NAME)
      refuse("the name is empty or too long");
    if (this.#stored.some(({ bitmap }) => bitmap.name === name)) refuse("it exists already");
    if (this.#stored.length >= MAX_BITMAPS) refuse("the image has as many bitmaps as the format allows");
    const bitmap = new Bitmap(name, granularity, meta.clusterSize, true);
    this.#stored.push({ bitmap, entry: undefined, loaded: true });
    this.#directoryChanged = true;
    return bitmap;
  }

  remove(name: string): void {
    const found = this.#find(name);
    this.#stored = this.#stored.filter((stored) => stored !== found);
    this.#directoryChanged = true;
    if (found.entry !== undefined) this.#free(found.entry);
  }

  clear(name: string): void {
    const { bitmap } = this.#usable(name);
    bitmap.clear();
  }

  setEnabled(name: string, isEnabled: boolean): void {
    const { bitmap } = this.#usable(name);
    if (bitmap.isEnabled !== isEnabled) this.#directoryChanged = true;
    bitmap.isEnabled = isEnabled;
  }

  /** Adds the bits of `source`, of this image or another. */
  merge(name: string, source: Bitmap): void {
    if (source.isInconsistent) {
      throw new ImageError(this.#meta.path, "request", `bitmap '${source.name}' is inconsistent`);
    }
    this.#usable(name).bitmap.merge(source, this.#meta.header.size);
  }

  /** Before the disk gets another size: what goes is dirty should the resize fail half-way. */
  beforeResize(size: number, before: number): void {
    for (const stored of this.#stored) if (!stored.bitmap.isInconsistent) this.#load(stored);
    // In the file every bitmap is of the old size until all are stored, what is disabled too.
    this.#beginWriting(true);
    if (size < before) this.touch(size, before - size);
  }

  /** Fits the bitmaps to a disk of another size. */
  resized(size: number, before: number): void {
    for (const stored of this.#stored) {
      if (stored.bitmap.isInconsistent) continue;
      const { bitmap } = stored;
      const kept: [number, number][] = [];
      for (const { offset, length, isDirty } of bitmap.runs(0, size))
        if (isDirty) kept.push([offset, length]);
      bitmap.clear();
      for (const [offset, length] of kept) bitmap.mark(offset, length);
      // What is new may have been there before with other content.
      if (size > before && bitmap.isEnabled) bitmap.mark(before, size - before);
      if (stored.entry !== undefined) this.#directoryChanged = true;
    }
  }

  /** Writes what changed and says in the file that nobody uses the bitmaps any more. */
  store(): void {
    const changed = this.#stored.some(({ bitmap }) => bitmap.hasChanged);
    if (!changed && !this.#directoryChanged && !this.#inUse) return;
    const meta = this.#meta;
    const old = bitmapsExtension(meta.header, meta.path);
    for (const stored of this.#stored) {
      const { bitmap } = stored;
      if (bitmap.hasChanged || stored.entry === undefined || this.#hasOtherSize(stored))
        this.#writeBits(stored);
      const entry = stored.entry;
      if (entry === undefined) continue;
      const auto = bitmap.isEnabled ? BitmapFlag.AUTO : 0;
      const inUse = bitmap.isInconsistent ? BitmapFlag.IN_USE : 0;
      entry.flags = (entry.flags & ~(BitmapFlag.AUTO | BitmapFlag.IN_USE)) | auto | inUse;
    }
    const entries = this.#entries();
    const bytes = encodeBitmapDirectory(entries);
    const offset = meta.writeNewTable(bytes);
    meta.flush();
    const isEmpty = entries.length === 0;
    meta.changeWholeHeader({
      extensions: withBitmapsExtension(
        meta.header.extensions,
        isEmpty ? undefined : { count: entries.length, directorySize: bytes.length, directoryOffset: offset },
      ),
      autoclear: isEmpty
        ? meta.header.autoclear & ~Autoclear.BITMAPS
        : meta.header.autoclear | Autoclear.BITMAPS,
    });
    if (old !== undefined) {
      meta.refcounts.release(old.directoryOffset, Math.ceil(old.directorySize / meta.clusterSize));
    }
    for (const [offset, clusters] of this.#waiting) meta.refcounts.release(offset, clusters);
    this.#waiting = [];
    for (const { bitmap } of this.#stored) bitmap.noteStored();
    this.#directoryChanged = false;
    this.#inUse = false;
    meta.settle();
  }

  #entries(): BitmapEntry[] {
    return this.#stored.flatMap(({ entry }) => (entry === undefined ? [] : [entry]));
  }

  #find(name: string): Stored {
    const found = this.#stored.find(({ bitmap }) => bitmap.name === name);
    if (found === undefined) throw new ImageError(this.#meta.path, "request", `there is no bitmap '${name}'`);
    return found;
  }

  #usable(name: string): Stored {
    const found = this.#find(name);
    if (found.bitmap.isInconsistent) {
      throw new ImageError(
        this.#meta.path,
        "request",
        `bitmap '${name}' is inconsistent and can only be removed`,
      );
    }
    this.#load(found);
    return found;
  }

  /**
   * Marks the bitmaps that follow writes as in use, stable, before the first write.
   * @param all marks disabled bitmaps as well
   */
  #beginWriting(all = false): void {
    const meta = this.#meta;
    const extension = bitmapsExtension(meta.header, meta.path);
    let marked = false;
    for (const stored of this.#stored) {
      if (stored.bitmap.isInconsistent || !(all || stored.bitmap.isEnabled)) continue;
      this.#load(stored);
      if (stored.entry === undefined) continue;
      stored.entry.flags |= BitmapFlag.IN_USE;
      marked = true;
    }
    if (!marked || extension === undefined) {
      this.#inUse = true;
      return;
    }
    // Bitmaps that were added or removed since are not in the file's directory yet.
    const inFile = readBitmapDirectory(meta.file.file, meta.header, extension);
    for (const entry of inFile) {
      const ours = this.#stored.find(({ bitmap }) => bitmap.name === entry.name)?.entry;
      if (ours !== undefined) entry.flags = ours.flags;
    }
    meta.file.write(extension.directoryOffset, encodeBitmapDirectory(inFile));
    meta.file.sync();
    this.#inUse = true; // not before: a write that failed is tried again
  }

  #load(stored: Stored): void {
    if (stored.loaded) return;
    const { entry, bitmap } = stored;
    if (entry !== undefined && !bitmap.isInconsistent) this.#loadChunks(entry, bitmap);
    stored.loaded = true; // not before: half a bitmap must never be stored as a whole one
  }

  #loadChunks(entry: BitmapEntry, bitmap: Bitmap): void {
    const needed = this.#tableSize(bitmap);
    if (entry.tableSize !== needed) {
      this.#meta.corrupt(
        `bitmap '${bitmap.name}' has a table of ${entry.tableSize} entries, and the disk needs ${needed}`,
      );
    }
    const table = this.#table(entry);
    let bytesInUse = this.#loadedBytes;
    for (let index = 0; index < entry.tableSize; index += 1) {
      const offset = pointerOf(table, index);
      const isOnes = offset === 0 && (table.getUint32(index * 8 + 4) & 1) !== 0;
      if (offset === 0 && !isOnes) continue;
      bytesInUse += this.#meta.clusterSize;
      if (bytesInUse > MAX_BITMAP_BYTES) {
        throw new ImageError(
          this.#meta.path,
          "unsupported",
          `the bits of the bitmaps take more than ${MAX_BITMAP_BYTES} bytes`,
        );
      }
      if (isOnes) {
        bitmap.loadChunk(index, new Uint8Array(this.#meta.clusterSize).fill(0xff));
        continue;
      }
      if (offset % this.#meta.clusterSize !== 0) {
        this.#meta.corrupt(`bitmap '${bitmap.name}' has data at ${offset}, which is not a cluster`);
      }
      const bytes = new Uint8Array(this.#meta.clusterSize);
      this.#meta.file.file.read(offset, bytes);
      bitmap.loadChunk(index, bytes);
    }
    this.#loadedBytes = bytesInUse;
  }

  #table(entry: BitmapEntry): DataView {
    const bytes = new Uint8Array(entry.tableSize * 8);
    this.#meta.file.file.read(entry.tableOffset, bytes);
    return new DataView(bytes.buffer);
  }

  /** Entries of the table that a bitmap of this image needs. */
  #tableSize(bitmap: Pick<Bitmap, "granularity">): number {
    const bits = Math.ceil(this.#meta.header.size / bitmap.granularity);
    return Math.ceil(bits / (8 * this.#meta.clusterSize));
  }

  #hasOtherSize({ bitmap, entry }: Stored): boolean {
    return !bitmap.isInconsistent && entry !== undefined && entry.tableSize !== this.#tableSize(bitmap);
  }

  #writeBits(stored: Stored): void {
    const meta = this.#meta;
    const { bitmap } = stored;
    this.#load(stored);
    const tableSize = this.#tableSize(bitmap);
    const table = new Uint8Array(tableSize * 8);
    const view = new DataView(table.buffer);
    for (let index = 0; index < tableSize; index += 1) {
      const chunk = bitmap.chunks[index];
      if (chunk === undefined || chunk.every((byte) => byte === 0)) continue;
      writeOffset(view, index * 8, meta.placeTable(chunk));
    }
    const old = stored.entry;
    if (old !== undefined) this.#free(old);
    stored.entry = {
      tableOffset: meta.placeTable(table),
      tableSize,
      flags: old?.flags ?? 0,
      granularityBits: Math.log2(bitmap.granularity),
      name: bitmap.name,
      extraData: old?.extraData ?? new Uint8Array(0),
    };
  }

  /** Gives back the clusters of a stored bitmap, once nothing stable names them. */
  #free(entry: BitmapEntry): void {
    const meta = this.#meta;
    const table = this.#table(entry);
    for (let index = 0; index < entry.tableSize; index += 1) {
      const offset = pointerOf(table, index);
      if (offset !== 0) this.#waiting.push([offset, 1]);
    }
    const clusters = Math.ceil((entry.tableSize * 8) / meta.clusterSize);
    if (clusters > 0) this.#waiting.push([entry.tableOffset, clusters]);
  }
}

/** Bits 9 to 55 of an entry of a bitmap's table. */
const pointerOf = (table: DataView, index: number): number => {
  const high = (table.getUint32(index * 8) & OFFSET_HI) * 2 ** 32;
  return high + ((table.getUint32(index * 8 + 4) & OFFSET_LO) >>> 0);
};
