import type { BlockFile } from "../file/block-file.ts";
import type { SectorCipher } from "../luks/sector-cipher.ts";
import { SECTOR } from "../luks/spec.ts";
import { ImageError } from "../image-error.ts";
import { BarrierFile } from "../file/barrier-file.ts";
import { hasDataFile, hasExtendedL2, luksRange, type Qcow2Header } from "./header.ts";
import { HeaderWriter } from "./header-writer.ts";
import { PointerTable } from "./pointer-table.ts";
import { type RefcountHost, Refcounts } from "./refcounts.ts";
import { type Slice, SliceCache } from "./slice-cache.ts";
import { Compatible, COPIED_HI, Incompatible } from "./spec.ts";

/** Bounds of the caches, bytes. */
export interface CacheBounds {
  /** 16 MiB cover 128 GiB of an image with clusters of 64 KiB. */
  readonly l2CacheBytes?: number;
  readonly refcountCacheBytes?: number;
}

/** How guest data stand in the file. `locked`: encrypted, and nobody said how. */
export type DataEncryption = SectorCipher | "none" | "locked";

/** More waiting frees than this make a write-back. */
const MAX_RELEASED_RUNS = 65536;

/**
 * The tables of an open image, and the one place that knows in which order they reach the disk.
 *
 * The order of {@link writeBack}, with a barrier between the steps that have something to write: data and refcounts
 * that went up; the refcount table; L2 tables; the L1 table; then refcounts go down. At every moment the stable file
 * names no cluster whose refcount is too small and no data that are not there: a power failure costs leaks. With lazy
 * refcounts the first step happens at {@link settle}, and the dirty bit says so before anything else does.
 */
export class Qcow2Metadata implements RefcountHost {
  readonly path: string;
  readonly header: Qcow2Header;
  readonly file: BarrierFile;
  readonly dataFile: BarrierFile;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly refcountOrder: number;
  readonly isExtendedL2: boolean;
  readonly hasDataFile: boolean;
  readonly entryBytes: number;
  readonly entriesPerL2: number;
  readonly readOnly: boolean;
  readonly refcounts: Refcounts;
  l1: PointerTable;
  readonly #headerWriter: HeaderWriter;
  readonly #isLazy: boolean;
  #isUnsafe = false;
  readonly #l2: SliceCache;
  readonly encryption: DataEncryption;
  /** Clusters of the header and the tables, so that a damaged image cannot make us write over them. */
  readonly #metadata = new Set<number>();

  constructor(
    header: Qcow2Header,
    file: BlockFile,
    dataFile: BlockFile | undefined,
    options: CacheBounds & { readonly unsafe: boolean; readonly encryption: DataEncryption },
  ) {
    this.path = file.path;
    this.header = header;
    this.file = new BarrierFile(file, options.unsafe);
    this.dataFile = dataFile === undefined ? this.file : new BarrierFile(dataFile, options.unsafe);
    if (dataFile !== undefined) this.file.orderAfter(this.dataFile);
    this.encryption = options.encryption;
    this.#isLazy = (header.compatible & Compatible.LAZY_REFCOUNTS) !== 0n;
    this.#headerWriter = new HeaderWriter(this.file, header);
    this.readOnly = file.readOnly;
    this.clusterBits = header.clusterBits;
    this.clusterSize = 2 ** header.clusterBits;
    this.refcountOrder = header.refcountOrder;
    this.isExtendedL2 = hasExtendedL2(header);
    this.hasDataFile = hasDataFile(header);
    this.entryBytes = this.isExtendedL2 ? 16 : 8;
    this.entriesPerL2 = this.clusterSize / this.entryBytes;
    const sliceBytes = Math.min(4096, this.clusterSize);
    this.#l2 = new SliceCache(this.file, sliceBytes, options.l2CacheBytes ?? 16 << 20);
    this.l1 = PointerTable.load(this.file, header.l1TableOffset, header.l1Size);
    this.refcounts = new Refcounts(
      this.file,
      this,
      new SliceCache(this.file, sliceBytes, options.refcountCacheBytes ?? 4 << 20),
      PointerTable.load(
        this.file,
        header.refcountTableOffset,
        (header.refcountTableClusters * this.clusterSize) / 8,
      ),
    );
    if (!this.readOnly) this.#collectMetadata();
  }

  isMetadata(cluster: number): boolean {
    return this.#metadata.has(cluster);
  }

  noteMetadata(cluster: number): void {
    this.#metadata.add(cluster);
  }

  forgetMetadata(cluster: number): void {
    this.#metadata.delete(cluster);
  }

  /** Notes a run of metadata by bytes. */
  noteMetadataRange(offset: number, bytes: number): void {
    for (let at = offset; at < offset + bytes; at += this.clusterSize)
      this.#metadata.add(at / this.clusterSize);
  }

  forgetMetadataRange(offset: number, bytes: number): void {
    for (let at = offset; at < offset + bytes; at += this.clusterSize) {
      this.#metadata.delete(at / this.clusterSize);
    }
  }

  #collectMetadata(): void {
    const { header } = this;
    this.#metadata.add(0);
    this.noteMetadataRange(header.l1TableOffset, header.l1Size * 8);
    const luks = luksRange(header);
    if (luks !== undefined) this.noteMetadataRange(luks.offset, luks.length);
    this.noteMetadataRange(header.refcountTableOffset, header.refcountTableClusters * this.clusterSize);
    for (const table of [this.refcounts.table, this.l1]) {
      for (let index = 0; index < table.entries; index += 1) {
        const pointer = table.pointer(index);
        if (pointer !== 0) this.#metadata.add(pointer / this.clusterSize);
      }
    }
  }

  /** Reads guest data at an offset of the file that has them. */
  readData(hostOffset: number, into: Uint8Array): void {
    const cipher = this.encryption;
    if (cipher === "none") {
      this.dataFile.file.read(hostOffset, into);
      return;
    }
    const lead = hostOffset % SECTOR;
    const whole = lead === 0 && into.length % SECTOR === 0;
    const sectors = whole ? into : new Uint8Array(Math.ceil((lead + into.length) / SECTOR) * SECTOR);
    this.dataFile.file.read(hostOffset - lead, sectors);
    this.#unlocked(cipher).decrypt((hostOffset - lead) / SECTOR, sectors);
    if (!whole) into.set(sectors.subarray(lead, lead + into.length));
  }

  /** Writes guest data, in whole sectors where the image is encrypted. */
  writeData(hostOffset: number, from: Uint8Array): void {
    const cipher = this.encryption;
    if (cipher === "none") {
      this.dataFile.write(hostOffset, from);
      return;
    }
    if (hostOffset % SECTOR !== 0 || from.length % SECTOR !== 0) {
      throw new ImageError(this.path, "request", "an encrypted image is written in whole sectors");
    }
    const encrypted = new Uint8Array(from.length);
    this.#unlocked(cipher).encrypt(hostOffset / SECTOR, from, encrypted);
    this.dataFile.write(hostOffset, encrypted);
  }

  get isEncrypted(): boolean {
    return this.encryption !== "none";
  }

  /** Encrypted, and nobody gave the secret. */
  get isLocked(): boolean {
    return this.encryption === "locked";
  }

  #unlocked(cipher: SectorCipher | "locked"): SectorCipher {
    if (cipher !== "locked") return cipher;
    throw new ImageError(this.path, "request", "the image is encrypted, and no secret was given for it");
  }

  /** Offset of the L2 table of an L1 entry, 0 where there is none. */
  l2TableOffset(l1Index: number): number {
    if (l1Index >= this.l1.entries) return 0;
    const pointer = this.l1.pointer(l1Index);
    if (pointer % this.clusterSize !== 0 || !Number.isSafeInteger(pointer)) {
      this.corrupt(`L2 table ${l1Index} lies at ${pointer}, which is not a cluster`);
    }
    return pointer;
  }

  /** The slice of an L2 table that has entry `index`. */
  l2Slice(tableOffset: number, index: number): Slice {
    const byte = index * this.entryBytes;
    return this.#l2.at(tableOffset + byte - (byte % this.#l2.sliceBytes));
  }

  /** Entries in a slice of an L2 table, the stride within which {@link l2Slice} gives the same slice. */
  get entriesPerSlice(): number {
    return this.#l2.sliceBytes / this.entryBytes;
  }

  markL2Dirty(slice: Slice): void {
    this.#l2.markDirty(slice);
  }

  /**
   * The L2 table of an L1 entry, made or copied so that its entries may be changed.
   */
  writableL2Table(l1Index: number): number {
    const pointer = this.l2TableOffset(l1Index);
    if (pointer !== 0 && (this.l1.upper(l1Index) & COPIED_HI) !== 0) return pointer;
    const bytes = new Uint8Array(this.clusterSize);
    if (pointer !== 0) {
      for (let index = 0; index < this.entriesPerL2; index += this.entriesPerSlice) {
        bytes.set(this.l2Slice(pointer, index).bytes, index * this.entryBytes);
      }
    }
    const table = this.refcounts.allocate(1);
    this.#l2.drop(table, this.clusterSize);
    this.#writeOrRelease(table, bytes);
    this.noteMetadata(table / this.clusterSize);
    this.l1.set(l1Index, table, COPIED_HI);
    if (pointer !== 0) this.refcounts.release(pointer, 1);
    return table;
  }

  /** Forgets cached entries of an L2 table that was rewritten or freed. */
  dropL2(tableOffset: number): void {
    this.#l2.drop(tableOffset, this.clusterSize);
  }

  /** Keeps the caches and the waiting frees within their bounds: call it between two changes. */
  bound(): void {
    if (
      this.#l2.isFullOfDirty ||
      this.refcounts.isFullOfDirty ||
      this.refcounts.releasedRuns > MAX_RELEASED_RUNS
    ) {
      this.writeBack();
    }
  }

  /** Hands every change to the file in the order that survives a power failure. The last step is not stable yet. */
  writeBack(): void {
    if (!this.#isLazy || this.refcounts.isFullOfDirty) this.#writeRefcounts();
    else if (this.refcounts.hasDirtyBlocks || this.refcounts.table.isDirty) this.#markDirty();
    if (this.#l2.dirtyCount > 0) {
      this.file.barrier();
      this.#l2.writeDirty();
    }
    if (this.l1.isDirty) {
      this.file.barrier();
      this.l1.writeDirty(this.file);
    }
    if (this.refcounts.hasReleased) {
      this.file.barrier();
      this.refcounts.applyReleased();
    }
  }

  #writeRefcounts(): void {
    if (this.#isLazy && this.refcounts.hasDirtyBlocks) this.#markDirty();
    this.refcounts.writeBlocks();
    if (this.refcounts.table.isDirty) {
      this.file.barrier();
      this.refcounts.table.writeDirty(this.file);
    }
  }

  /** Every change is on stable storage, but for refcounts that still have to go down or that are lazy. */
  flush(): void {
    this.writeBack();
    this.dataFile.sync();
    this.file.sync();
  }

  /** As {@link flush}, with nothing left over. */
  settle(): void {
    this.flush();
    this.#writeRefcounts();
    this.flush();
    if (this.#isUnsafe || !this.#isMarkedDirty) return;
    this.changeHeader({ incompatible: this.header.incompatible & ~Incompatible.DIRTY });
  }

  moveTable(offset: number, clusters: number): void {
    this.changeHeader({ refcountTableOffset: offset, refcountTableClusters: clusters });
  }

  get #isMarkedDirty(): boolean {
    return (this.header.incompatible & Incompatible.DIRTY) !== 0n;
  }

  #markDirty(): void {
    if (this.header.version === 2 || this.#isMarkedDirty) return;
    this.changeHeader({ incompatible: this.header.incompatible | Incompatible.DIRTY });
  }

  /**
   * Sets the dirty bit, stable, before refcounts and copied flags disagree with the tables for a while: whoever opens
   * the image after a power failure repairs it first. Version 2 has no such bit; there a failure leaves flags that a
   * check complains of, though no data are at risk.
   */
  beginUnsafe(): void {
    this.#markDirty();
    this.#isUnsafe = true;
  }

  /** Everything is stable and agrees; the dirty bit goes. */
  endUnsafe(): void {
    this.#isUnsafe = false;
    this.settle();
  }

  /**
   * Takes another L1 table, and what changes with it, in one write of the header's first sector. The caller has made
   * the table stable; the old one is given back.
   */
  switchL1(l1TableOffset: number, entries: number, size: number): void {
    const { header } = this;
    const old = { offset: header.l1TableOffset, clusters: Math.ceil((header.l1Size * 8) / this.clusterSize) };
    const next = PointerTable.load(this.file, l1TableOffset, entries);
    this.changeHeader({ l1TableOffset, l1Size: entries, size });
    this.l1 = next;
    this.forgetMetadataRange(old.offset, old.clusters * this.clusterSize);
    this.noteMetadataRange(l1TableOffset, entries * 8);
    if (old.clusters > 0) this.refcounts.release(old.offset, old.clusters);
  }

  /** Writes a table into new clusters, with their refcounts, and makes it stable. Returns its offset. */
  writeNewTable(bytes: Uint8Array): number {
    const offset = this.placeTable(bytes);
    this.writeBack();
    this.file.barrier();
    return offset;
  }

  /** As {@link writeNewTable}, stable with the next barrier only. */
  placeTable(bytes: Uint8Array): number {
    const clusters = Math.ceil(bytes.length / this.clusterSize);
    if (clusters === 0) return 0;
    const offset = this.refcounts.allocate(clusters);
    const whole = new Uint8Array(clusters * this.clusterSize);
    whole.set(bytes);
    this.#l2.drop(offset, whole.length);
    this.#writeOrRelease(offset, whole);
    return offset;
  }

  /** Fills new clusters, which are given back where that fails. */
  #writeOrRelease(offset: number, bytes: Uint8Array): void {
    try {
      this.file.write(offset, bytes);
    } catch (error) {
      this.refcounts.release(offset, bytes.length / this.clusterSize);
      throw error;
    }
  }

  /** Changes fixed fields of the header, stable. Where that fails the header is as it was. */
  changeHeader(fields: Partial<Qcow2Header>): void {
    this.#headerWriter.change(fields, "fields");
  }

  /** As {@link changeHeader}, with the extensions and the name of the backing file. */
  changeWholeHeader(fields: Partial<Qcow2Header>): void {
    this.#headerWriter.change(fields, "all");
  }

  corrupt(message: string): never {
    throw new ImageError(this.path, "corrupt", message);
  }

  /** Sets the corrupt bit, so that nobody writes before a repair, and throws. */
  markCorrupt(message: string): never {
    if (!this.readOnly && this.header.version === 3) {
      this.changeHeader({ incompatible: this.header.incompatible | Incompatible.CORRUPT });
    }
    return this.corrupt(message);
  }
}
