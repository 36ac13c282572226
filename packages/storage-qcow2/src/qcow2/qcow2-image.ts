import {
  type DiskImage,
  type Extent,
  expectInside,
  expectWritable,
  SynchronousImage,
} from "../disk-image.ts";
import type { BlockFile } from "../file/block-file.ts";
import { ImageError } from "../image-error.ts";
import type { Preallocation } from "../operations/preallocate.ts";
import { Bitmaps } from "./bitmaps.ts";
import { checkQcow2 } from "./check/check-qcow2.ts";
import { ClusterWriter } from "./cluster-writer.ts";
import { runAt } from "./cluster-map.ts";
import { CompressedClusters } from "./compressed-clusters.ts";
import { describeQcow2, type Qcow2Description } from "./description.ts";
import { hasDataFile, luksRange, type Qcow2Header, readHeader, withExtensionText } from "./header.ts";
import { encryptionOf, readLuks } from "./image-encryption.ts";
import { type CacheBounds, Qcow2Metadata } from "./metadata.ts";
import { expectPossibleSize, resizeQcow2 } from "./resize.ts";
import { findSnapshot, hasPossibleL1, readSnapshotTable, type SnapshotEntry } from "./snapshot-table.ts";
import { type SnapshotTime, Snapshots } from "./snapshots.ts";
import { Autoclear, Extension, Incompatible } from "./spec.ts";

/** What {@link Qcow2Image.open} takes beside the file. */
export interface Qcow2Options extends CacheBounds {
  /** The image below. Without it, unallocated clusters read as zeroes. */
  readonly backing?: DiskImage;
  /** The external data file of an image that has one. */
  readonly dataFile?: BlockFile;
  /** Nothing is made stable, as under QEMU's `cache=unsafe`: for an image that is thrown away when the host fails. */
  readonly unsafe?: boolean;
  /** Reads this internal snapshot, by id or name, in place of the active state. Needs a file opened for reading. */
  readonly snapshot?: string;
  /** Of an encrypted image. Without it, its data can be neither read nor written. */
  readonly passphrase?: Uint8Array;
  /** An open image whose key is taken where the two have the same LUKS header: to derive it from a passphrase takes seconds. */
  readonly encryptedAs?: Qcow2Image;
}

/** A qcow2 image, version 2 or 3 (docs/interop/qcow2). Not modelled: the old encryption, method 1. */
export class Qcow2Image extends SynchronousImage {
  readonly format = "qcow2";
  readonly path: string;
  readonly readOnly: boolean;
  #backing: DiskImage | undefined;
  /** The tables, for tools of this package. */
  readonly meta: Qcow2Metadata;
  /** Persistent dirty bitmaps. What was written while the image was open is in them too. */
  readonly bitmaps: Bitmaps;
  readonly #snapshots: Snapshots;
  readonly #file: BlockFile;
  readonly #dataFile: BlockFile | undefined;
  readonly #compressed: CompressedClusters;
  readonly #writer: ClusterWriter;
  /** `undefined`: not looked yet. */
  #hasHoles: boolean | undefined;
  #closed = false;

  private constructor(header: Qcow2Header, file: BlockFile, options: Qcow2Options) {
    super();
    this.path = file.path;
    this.readOnly = file.readOnly;
    this.#backing = options.backing;
    this.#file = file;
    this.#dataFile = options.dataFile;
    this.meta = new Qcow2Metadata(header, file, options.dataFile, {
      ...options,
      unsafe: options.unsafe ?? false,
      encryption: encryptionOf(header, file, options),
    });
    this.bitmaps = Bitmaps.load(this.meta);
    this.#snapshots = new Snapshots(this.meta);
    this.#compressed = new CompressedClusters(this.meta);
    this.#writer = new ClusterWriter(this.meta, this.#compressed, {
      hasBacking: () => this.#backing !== undefined,
      readOld: (offset, into) => this.readAt(offset, into),
    });
  }

  /** @throws {@link ImageError} */
  static open(file: BlockFile, options: Qcow2Options = {}): Qcow2Image {
    let header = readHeader(file);
    const needsDataFile = hasDataFile(header);
    if (needsDataFile !== (options.dataFile !== undefined)) {
      throw new ImageError(
        file.path,
        "request",
        needsDataFile ? "the image keeps its data in another file" : "the image has no external data file",
      );
    }
    if (!file.readOnly && (header.incompatible & Incompatible.CORRUPT) !== 0n) {
      throw new ImageError(
        file.path,
        "corrupt",
        "the image is marked corrupt: repair it before writing to it",
      );
    }
    expectTables(header, file);
    if (options.snapshot !== undefined)
      return Qcow2Image.#openSnapshot(header, file, options, options.snapshot);
    if (!file.readOnly && (header.incompatible & Incompatible.DIRTY) !== 0n) {
      repairUnclosed(file);
      header = readHeader(file);
    }
    const image = new Qcow2Image(header, file, options);
    if (!file.readOnly) image.#clearAutoclear();
    return image;
  }

  static #openSnapshot(
    header: Qcow2Header,
    file: BlockFile,
    options: Qcow2Options,
    idOrName: string,
  ): Qcow2Image {
    if (!file.readOnly) throw new ImageError(file.path, "request", "a snapshot can only be read");
    const entry = findSnapshot(readSnapshotTable(file, header), idOrName, file.path);
    const size = entry.diskSize ?? header.size;
    const l1 = { l1TableOffset: entry.l1TableOffset, l1Size: entry.l1Size };
    if (!hasPossibleL1({ ...entry, diskSize: size }, header)) {
      throw new ImageError(file.path, "corrupt", `snapshot '${idOrName}' has an impossible L1 table`);
    }
    return new Qcow2Image({ ...header, ...l1, size }, file, options);
  }

  get backing(): DiskImage | undefined {
    return this.#backing;
  }

  get dataPath(): string {
    return this.meta.dataFile.file.path;
  }

  get header(): Qcow2Header {
    return this.meta.header;
  }

  get size(): number {
    return this.meta.header.size;
  }

  /** Of an encrypted image, the header and key slots as they stand in the file. */
  get luksHeader(): Uint8Array | undefined {
    return luksRange(this.header) && readLuks(this.header, this.#file);
  }

  /** What the header says, for people. */
  describe(): Qcow2Description {
    return describeQcow2(this.header, this.#file);
  }

  readAt(offset: number, into: Uint8Array): void {
    const inside = Math.max(0, Math.min(into.length, this.size - offset));
    if (inside < into.length) into.fill(0, inside);
    let done = 0;
    while (done < inside) {
      const run = runAt(this.meta, offset + done, inside - done);
      const part = into.subarray(done, done + run.length);
      switch (run.kind) {
        case "data":
          this.meta.readData(run.hostOffset, part);
          break;
        case "zero":
          part.fill(0);
          break;
        case "compressed": {
          const within = (offset + done) % this.meta.clusterSize;
          part.set(this.#compressed.read(run.entry).subarray(within, within + part.length));
          break;
        }
        case "unallocated":
          if (this.backing === undefined) part.fill(0);
          else this.backing.readAt(offset + done, part);
      }
      done += run.length;
    }
  }

  readLater(offset: number, into: Uint8Array): Promise<void> | undefined {
    if (this.meta.isEncrypted || offset + into.length > this.size) return undefined;
    const run = runAt(this.meta, offset, into.length);
    if (run.length < into.length) return undefined;
    if (run.kind === "data") return this.meta.dataFile.file.readLater?.(run.hostOffset, into);
    return run.kind === "unallocated" ? this.backing?.readLater?.(offset, into) : undefined;
  }

  writeAt(offset: number, from: Uint8Array): void {
    this.#beforeWrite(offset, from.length);
    this.#writer.write(offset, from);
  }

  /** Writes one whole cluster compressed, or as it is where that is no smaller. `packed` is what compression made. */
  writeCompressedCluster(offset: number, from: Uint8Array, packed?: Uint8Array): void {
    this.#beforeWrite(offset, Math.min(from.length, this.size - offset));
    this.#writer.writeCompressed(offset, from, packed);
  }

  writeZeroesAt(offset: number, length: number, mayUnmap: boolean): void {
    this.#beforeWrite(offset, length);
    this.#writer.writeZeroes(offset, length, mayUnmap);
  }

  discardAt(offset: number, length: number): void {
    this.#beforeWrite(offset, length);
    this.#writer.discard(offset, length);
  }

  /** Makes whole clusters show the backing image again; the image must be the top of its chain. */
  unmapAt(offset: number, length: number): void {
    this.#beforeWrite(offset, length);
    this.#writer.unmap(offset, length);
  }

  /**
   * Gives clusters from `offset` on that have none a place in the file, where they read as zeroes (of an encrypted image:
   * as anything, but with `full`). Over a backing image only subclusters can have a place and yet show what is below.
   */
  preallocate(offset: number, mode: Preallocation): void {
    expectWritable(this);
    if (mode === "off") return;
    if (this.header.backingFile !== undefined && !this.meta.isExtendedL2) {
      throw new ImageError(
        this.path,
        "request",
        "Backing file and preallocation can only be used at the same time if extended_l2 is on",
      );
    }
    this.#writer.preallocate(offset, this.size, mode);
  }

  /** Internal snapshots, oldest first. */
  snapshots(): SnapshotEntry[] {
    return this.#snapshots.list();
  }

  /** Keeps the disk as it is now inside the image. */
  createSnapshot(name: string, time: SnapshotTime): SnapshotEntry {
    expectWritable(this);
    this.#writer.forgetPacking();
    return this.#snapshots.create(name, time);
  }

  deleteSnapshot(idOrName: string): void {
    expectWritable(this);
    this.#writer.forgetPacking();
    this.#snapshots.delete(idOrName);
  }

  /** Makes the disk what it was when the snapshot was taken. */
  applySnapshot(idOrName: string): void {
    expectWritable(this);
    if (!this.bitmaps.isEmpty) {
      throw new ImageError(
        this.path,
        "request",
        "the image has bitmaps, which cannot follow it to a snapshot",
      );
    }
    this.#writer.forgetPacking();
    this.#snapshots.apply(idOrName);
  }

  /** Changes the size that a guest sees; what is new reads as zeroes. */
  resize(size: number): void {
    expectWritable(this);
    const before = this.size;
    expectPossibleSize(this.meta, size);
    this.#writer.forgetPacking();
    if (!this.bitmaps.isEmpty) this.bitmaps.beforeResize(size, before);
    resizeQcow2(
      this.meta,
      {
        backingSize: this.backing?.size ?? 0,
        writeZeroes: (offset, length) => this.#writer.writeZeroes(offset, length, true),
        blank: (offset, length) => this.#writer.blank(offset, length),
        unmap: (offset, length) => this.#writer.unmap(offset, length),
        setDataLength: (length) => {
          if (this.meta.hasDataFile) this.meta.dataFile.truncate(length);
        },
      },
      size,
    );
    if (!this.bitmaps.isEmpty) this.bitmaps.resized(size, before);
  }

  /**
   * Makes the image stand on another backing file, or on none. Only the names change: what the image has not allocated
   * shows the other content, and the caller reopens the image to see it.
   */
  setBackingFile(name: string | undefined, format: string | undefined): void {
    expectWritable(this);
    this.meta.settle();
    this.meta.changeWholeHeader({
      backingFile: name,
      extensions: withExtensionText(this.header.extensions, Extension.BACKING_FORMAT, format),
    });
  }

  flushNow(): void {
    if (!this.readOnly) this.meta.flush();
  }

  extentAt(offset: number, length: number): Extent {
    expectInside(this, offset, 0);
    const run = runAt(this.meta, offset, Math.min(length, this.size - offset));
    const fileOffset = run.hostOffset < 0 || this.meta.isEncrypted ? undefined : run.hostOffset;
    if (run.kind === "data" && fileOffset !== undefined && (this.#hasHoles ??= this.#findHoles())) {
      const below = this.meta.dataFile.file.extentAt?.(fileOffset, run.length);
      if (below !== undefined) {
        return { length: below.length, kind: run.kind, fileOffset, isHole: below.isHole };
      }
    }
    return { length: run.length, kind: run.kind, fileOffset };
  }

  /**
   * True where the file has storage for clearly less than its refcounts say, as after `preallocation=metadata`: then it is
   * worth asking where its holes are. The threshold is QEMU's.
   */
  #findHoles(): boolean {
    const allocated = this.#file.allocated?.();
    if (allocated === undefined) return false;
    const stored = Math.floor(allocated / this.meta.clusterSize);
    const threshold = Math.max(Math.floor((stored * 10) / 9), stored + 2);
    const end = Math.ceil(this.#file.size() / this.meta.clusterSize);
    if (threshold > end) return false;
    let used = 0;
    for (let cluster = 0; cluster < end && used < threshold; cluster += 1) {
      if (this.meta.refcounts.get(cluster) > 0) used += 1;
    }
    return used >= threshold;
  }

  /** Bytes that the host allocated for the image and its data file. */
  allocated(): number {
    return (this.#file.allocated?.() ?? this.#file.size()) + (this.#dataFile?.allocated?.() ?? 0);
  }

  /** Length of the image's file. */
  fileSize(): number {
    return this.#file.size();
  }

  /** Writes what the backing image has already: no bitmap hears of it, since no byte of the disk changes. */
  copyUp(offset: number, from: Uint8Array): void {
    expectWritable(this);
    expectInside(this, offset, from.length);
    this.#writer.write(offset, from);
  }

  /** Stands on nothing from now on: what it does not have reads as zeroes. Closes the images below. */
  detachBacking(): void {
    this.setBackingFile(undefined, undefined);
    const below = this.#backing;
    this.#backing = undefined;
    below?.closeNow();
  }

  /** Stands on the same image that was opened again. */
  replaceBacking(backing: DiskImage): void {
    this.#backing = backing;
  }

  /** Closes this image and leaves those below open. */
  closeAlone(): void {
    this.#backing = undefined;
    this.closeNow();
  }

  handOver(toWriter: boolean): void {
    this.#settle();
    this.#file.handOver?.(toWriter);
    try {
      this.#dataFile?.handOver?.(toWriter);
    } catch (error) {
      this.#file.takeBack?.();
      throw error;
    }
  }

  takeBack(): void {
    for (const file of [this.#file, this.#dataFile]) file?.takeBack?.();
  }

  #settle(): void {
    if (this.readOnly) return;
    try {
      this.bitmaps.store();
    } finally {
      this.meta.settle(); // what the guest was told is written does not depend on a bitmap
    }
  }

  closeNow(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#settle();
    } finally {
      try {
        this.#dataFile?.close();
      } finally {
        this.#file.close();
        this.backing?.closeNow();
      }
    }
  }

  /** Closes without writing what is in the caches: the file is as a crash would leave it. */
  abandon(): void {
    this.#closed = true;
    this.#dataFile?.close();
    this.#file.close();
    this.backing?.closeNow();
  }

  #beforeWrite(offset: number, length: number): void {
    expectWritable(this);
    expectInside(this, offset, length);
    this.meta.file.expectNothingLost();
    if (!this.bitmaps.isEmpty) this.bitmaps.touch(offset, length);
  }

  /** What we do not know we cannot keep up to date. */
  #clearAutoclear(): void {
    const { header } = this.meta;
    const kept = header.autoclear & (Autoclear.RAW_DATA_FILE | Autoclear.BITMAPS);
    if (kept === header.autoclear) return;
    this.meta.changeHeader({ autoclear: kept });
  }
}

/** Of a file that was cut off everything would read as zeroes. */
function expectTables(header: Qcow2Header, file: BlockFile): void {
  const end = file.size();
  for (const [offset, name] of [
    [header.refcountTableOffset, "its refcount table"],
    [header.l1Size === 0 ? 0 : header.l1TableOffset, "its L1 table"],
  ] as const) {
    if (offset < end) continue;
    throw new ImageError(
      file.path,
      "corrupt",
      `the file has ${end} bytes and was cut off before ${name}, at ${offset}`,
    );
  }
}

/** The last writer did not close the image: its refcounts may not hold. */
function repairUnclosed(file: BlockFile): void {
  const { corruptions, checkErrors } = checkQcow2(file, "all");
  if (corruptions > 0 || checkErrors > 0) {
    throw new ImageError(
      file.path,
      "corrupt",
      `the image was not closed, and a repair left ${corruptions} corruptions and ${checkErrors} errors; it can be read, and so copied to another`,
    );
  }
}
