import type { BlockFile } from "../file/block-file.ts";
import { ImageError } from "../image-error.ts";
import { BarrierFile } from "./barrier-file.ts";
import { encodeHeader, hasDataFile, hasExtendedL2, type Qcow2Header } from "./header.ts";
import { PointerTable } from "./pointer-table.ts";
import { type RefcountHost, Refcounts } from "./refcounts.ts";
import { type Slice, SliceCache } from "./slice-cache.ts";
import { COPIED_HI, Incompatible } from "./spec.ts";

/** Bounds of the caches, bytes. */
export interface CacheBounds {
  /** 16 MiB cover 128 GiB of an image with clusters of 64 KiB. */
  readonly l2CacheBytes?: number;
  readonly refcountCacheBytes?: number;
}

/** More waiting frees than this make a write-back. */
const MAX_RELEASED_RUNS = 65536;

/**
 * The tables of an open image, and the one place that knows in which order they reach the disk.
 *
 * The order of {@link writeBack}, with a barrier between the steps that have something to write: data and refcounts
 * that went up; the refcount table; L2 tables; the L1 table; then refcounts go down. At every moment the stable file
 * names no cluster whose refcount is too small and no data that are not there: a power failure costs leaks.
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
  readonly #l2: SliceCache;
  /** Clusters of the header and the tables, so that a damaged image cannot make us write over them. */
  readonly #metadata = new Set<number>();

  constructor(
    header: Qcow2Header,
    file: BlockFile,
    dataFile: BlockFile | undefined,
    options: CacheBounds & { readonly unsafe: boolean },
  ) {
    this.path = file.path;
    this.header = header;
    this.file = new BarrierFile(file, options.unsafe);
    this.dataFile = dataFile === undefined ? this.file : new BarrierFile(dataFile, options.unsafe);
    if (dataFile !== undefined) this.file.orderAfter(this.dataFile);
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
    this.noteMetadataRange(header.refcountTableOffset, header.refcountTableClusters * this.clusterSize);
    for (const table of [this.refcounts.table, this.l1]) {
      for (let index = 0; index < table.entries; index += 1) {
        const pointer = table.pointer(index);
        if (pointer !== 0) this.#metadata.add(pointer / this.clusterSize);
      }
    }
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
    this.noteMetadata(table / this.clusterSize);
    this.#l2.drop(table, this.clusterSize);
    this.file.write(table, bytes);
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
    this.refcounts.writeBlocks();
    if (this.refcounts.table.isDirty) {
      this.file.barrier();
      this.refcounts.table.writeDirty(this.file);
    }
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

  /** Every change is on stable storage, but for refcounts that still have to go down. */
  flush(): void {
    this.writeBack();
    this.dataFile.sync();
    this.file.sync();
  }

  /** As {@link flush}, with nothing left over. */
  settle(): void {
    this.flush();
    this.flush();
  }

  moveTable(offset: number, clusters: number): void {
    this.header.refcountTableOffset = offset;
    this.header.refcountTableClusters = clusters;
    this.writeHeader();
    this.file.barrier();
  }

  /** Rewrites the header. Its fixed fields lie in one sector, which a disk writes whole. */
  writeHeader(): void {
    const bytes = encodeHeader(this.header, this.path);
    this.file.write(0, bytes);
  }

  /** Rewrites the whole header cluster: for extensions or a backing name that got shorter. */
  writeHeaderCluster(): void {
    const bytes = new Uint8Array(this.clusterSize);
    bytes.set(encodeHeader(this.header, this.path));
    this.file.write(0, bytes);
  }

  corrupt(message: string): never {
    throw new ImageError(this.path, "corrupt", message);
  }

  /** Sets the corrupt bit, so that nobody writes before a repair, and throws. */
  markCorrupt(message: string): never {
    if (!this.readOnly && this.header.version === 3) {
      this.header.incompatible |= Incompatible.CORRUPT;
      this.writeHeader();
      this.file.sync();
    }
    return this.corrupt(message);
  }
}
