import { ImageError } from "../image-error.ts";
import type { BarrierFile } from "../file/barrier-file.ts";
import { PointerTable } from "./pointer-table.ts";
import { maxRefcount, putRefcount, readRefcount } from "./refcount-entry.ts";
import type { Slice, SliceCache } from "./slice-cache.ts";
import { MAX_REFCOUNT_TABLE_BYTES } from "./spec.ts";

/** Most file systems give storage back in blocks of this many bytes. */
const HOST_BLOCK = 4096;

/** What the refcounts need of the image around them. */
export interface RefcountHost {
  readonly path: string;
  readonly clusterBits: number;
  /** log2 of the width in bits. */
  readonly refcountOrder: number;
  /** True for a cluster that holds metadata and therefore cannot be free. */
  isMetadata(cluster: number): boolean;
  noteMetadata(cluster: number): void;
  forgetMetadata(cluster: number): void;
  /** The refcount table moved: makes everything so far stable, then writes the header. */
  moveTable(offset: number, clusters: number): void;
  markCorrupt(message: string): never;
}

/**
 * Reference counts of host clusters, of every width, and the allocator over them (docs/interop/qcow2: Host cluster
 * management). Counts that go up are in the cache at once; counts that go down wait in {@link release} until the
 * image has made every pointer to the cluster disappear from stable storage.
 */
export class Refcounts {
  table: PointerTable;
  readonly #file: BarrierFile;
  readonly #host: RefcountHost;
  readonly #cache: SliceCache;
  readonly #blockBits: number;
  readonly #bits: number;
  #hint = 0;
  #released: { cluster: number; count: number }[] = [];

  constructor(file: BarrierFile, host: RefcountHost, cache: SliceCache, table: PointerTable) {
    this.#file = file;
    this.#host = host;
    this.#cache = cache;
    this.table = table;
    this.#bits = 2 ** host.refcountOrder;
    this.#blockBits = host.clusterBits + 3 - host.refcountOrder;
  }

  /** The greatest count the width can hold, or 2^53 - 1. */
  get max(): number {
    return maxRefcount(this.#bits);
  }

  /** Clusters that one refcount block counts. */
  get clustersPerBlock(): number {
    return 2 ** this.#blockBits;
  }

  get hasReleased(): boolean {
    return this.#released.length > 0;
  }

  get(cluster: number): number {
    const slice = this.#slice(cluster);
    return slice === undefined ? 0 : readRefcount(slice.view, this.#bits, this.#withinSlice(slice, cluster));
  }

  /** Sets a count in the cache; the block is made where there is none. */
  set(cluster: number, value: number): void {
    this.#ensureBlock(this.#blockOf(cluster));
    const slice = this.#slice(cluster);
    if (slice === undefined) throw new ImageError(this.#host.path, "corrupt", "a refcount block vanished");
    this.#cache.markDirty(slice);
    putRefcount(slice.view, this.#bits, this.#withinSlice(slice, cluster), value);
    if (value === 0 && cluster < this.#hint) this.#hint = cluster;
  }

  /** @throws {@link ImageError} where the width holds no more */
  increment(cluster: number): void {
    const now = this.get(cluster);
    if (now >= this.max) {
      throw new ImageError(
        this.#host.path,
        "request",
        `cluster ${cluster} is referenced ${now} times, which is all that ${this.#bits}-bit refcounts hold`,
      );
    }
    this.set(cluster, now + 1);
  }

  /** Gives `count` clusters back once no stable pointer names them any more. */
  release(offset: number, count: number): void {
    const cluster = offset / 2 ** this.#host.clusterBits;
    const last = this.#released.at(-1);
    if (last !== undefined && last.cluster + last.count === cluster && count > 0) last.count += count;
    else this.#released.push({ cluster, count });
  }

  /** The number of waiting {@link release} runs, to bound them. */
  get releasedRuns(): number {
    return this.#released.length;
  }

  /** Counts down what waits. The caller has made the pointers' removal stable. */
  applyReleased(): void {
    const released = this.#released;
    this.#released = [];
    const free = new FreedRuns(2 ** this.#host.clusterBits);
    for (const run of released) {
      for (let cluster = run.cluster; cluster < run.cluster + run.count; cluster += 1) {
        const now = this.get(cluster);
        if (now === 0) this.#host.markCorrupt(`cluster ${cluster} is freed though its refcount is 0`);
        this.set(cluster, now - 1);
        if (now === 1) {
          this.#host.forgetMetadata(cluster);
          free.add(cluster);
        }
      }
    }
    free.punch(this.#file);
  }

  /**
   * Takes `count` free clusters in a row, each with refcount 1, and returns the offset of the first.
   */
  allocate(count: number): number {
    let start = this.#hint;
    let found = 0;
    if (count > this.clustersPerBlock / 2) start = this.#reserveRun(count);
    while (found < count) {
      const cluster = start + found;
      this.#ensureBlock(this.#blockOf(cluster));
      if (this.get(cluster) === 0) found += 1;
      else {
        start = cluster + 1;
        found = 0;
      }
    }
    for (let cluster = start; cluster < start + count; cluster += 1) {
      if (this.#host.isMetadata(cluster)) {
        this.#host.markCorrupt(`cluster ${cluster} holds metadata and has refcount 0`);
      }
      this.set(cluster, 1);
    }
    if (start === this.#hint || count === 1) this.#hint = start + count;
    return start * 2 ** this.#host.clusterBits;
  }

  /** Takes one given cluster if it is free. */
  takeIfFree(cluster: number): boolean {
    this.#ensureBlock(this.#blockOf(cluster));
    if (this.get(cluster) !== 0 || this.#host.isMetadata(cluster)) return false;
    this.set(cluster, 1);
    return true;
  }

  writeBlocks(): void {
    this.#cache.writeDirty();
  }

  get hasDirtyBlocks(): boolean {
    return this.#cache.dirtyCount > 0;
  }

  get isFullOfDirty(): boolean {
    return this.#cache.isFullOfDirty;
  }

  #blockOf(cluster: number): number {
    return Math.floor(cluster / this.clustersPerBlock);
  }

  #slice(cluster: number): Slice | undefined {
    const block = this.#blockOf(cluster);
    if (block >= this.table.entries) return undefined;
    const pointer = this.table.pointer(block);
    if (pointer === 0) return undefined;
    if (!Number.isSafeInteger(pointer) || pointer % 2 ** this.#host.clusterBits !== 0) {
      throw new ImageError(
        this.#host.path,
        "corrupt",
        `refcount block ${block} lies at ${pointer}: not a cluster`,
      );
    }
    const byte = Math.floor(((cluster % this.clustersPerBlock) * this.#bits) / 8);
    return this.#cache.at(pointer + byte - (byte % this.#cache.sliceBytes));
  }

  #withinSlice({ bytes }: Slice, cluster: number): number {
    return cluster % ((bytes.length * 8) / this.#bits);
  }

  #ensureBlock(block: number): void {
    if (block < this.table.entries && this.table.pointer(block) !== 0) return;
    this.#createBlocks(block, 1);
  }

  /** Makes room for a run longer than a block counts: behind every block, with the blocks it needs made first. */
  #reserveRun(count: number): number {
    let last = this.table.entries - 1;
    while (last >= 0 && this.table.pointer(last) === 0) last -= 1;
    const first = last + 1;
    let blocks = 1;
    // Room for the blocks themselves and, at worst, for a new table.
    const tableClusters = (): number =>
      Math.ceil(((first + blocks) * 8 * 1.5) / 2 ** this.#host.clusterBits) + 1;
    while (blocks * this.clustersPerBlock < count + blocks + tableClusters()) blocks += 1;
    this.#createBlocks(first, blocks);
    return first * this.clustersPerBlock;
  }

  /**
   * Makes refcount blocks `first` to `first + count - 1`. They lie in the first clusters that they count, so that
   * nothing else has to be allocated for them; a table that grows lies right behind them.
   */
  #createBlocks(first: number, count: number): void {
    const clusterSize = 2 ** this.#host.clusterBits;
    let blocks = count;
    let tableClusters = 0;
    if (first + blocks > this.table.entries) {
      for (;;) {
        tableClusters = Math.ceil(Math.max((first + blocks) * 8, this.table.entries * 12) / clusterSize);
        if (blocks * this.clustersPerBlock >= blocks + tableClusters) break;
        blocks += 1;
      }
    }
    if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
      throw new ImageError(
        this.#host.path,
        "request",
        "the image cannot grow: its refcount table is at its limit",
      );
    }
    const base = first * this.clustersPerBlock;
    const used = blocks + tableClusters;
    for (let index = 0; index < used; index += 1) {
      if (this.#host.isMetadata(base + index)) {
        this.#host.markCorrupt(`cluster ${base + index} holds metadata and has no refcount`);
      }
    }
    this.#cache.drop(base * clusterSize, blocks * clusterSize);
    // They count themselves before anything names them: a write that fails leaves nothing behind.
    for (let index = 0; index < blocks; index += 1) {
      const bytes = new Uint8Array(clusterSize);
      const view = new DataView(bytes.buffer);
      const counted = Math.min(used - index * this.clustersPerBlock, this.clustersPerBlock);
      for (let within = 0; within < counted; within += 1) putRefcount(view, this.#bits, within, 1);
      this.#file.write((base + index) * clusterSize, bytes);
    }
    const pointTo = (table: PointerTable): void => {
      for (let index = 0; index < blocks; index += 1) {
        table.set(first + index, (base + index) * clusterSize, 0);
      }
    };
    if (tableClusters > 0) this.#growTable(base + blocks, tableClusters, pointTo);
    else pointTo(this.table);
    for (let index = 0; index < used; index += 1) this.#host.noteMetadata(base + index);
  }

  #growTable(cluster: number, clusters: number, change: (table: PointerTable) => void): void {
    const clusterSize = 2 ** this.#host.clusterBits;
    const old = this.table;
    const bytes = new Uint8Array(clusters * clusterSize);
    bytes.set(old.encoded());
    change(new PointerTable(cluster * clusterSize, bytes));
    this.#cache.writeDirty();
    this.#file.write(cluster * clusterSize, bytes);
    this.#file.barrier();
    this.#host.moveTable(cluster * clusterSize, clusters);
    this.table = new PointerTable(cluster * clusterSize, bytes);
    const oldClusters = Math.ceil((old.entries * 8) / clusterSize);
    for (let index = 0; index < oldClusters; index += 1)
      this.#host.forgetMetadata(old.offset / clusterSize + index);
    this.release(old.offset, oldClusters);
  }
}

/** Clusters that became free, whose storage goes back to the host in runs of whole blocks. */
class FreedRuns {
  readonly #clusterSize: number;
  readonly #runs: { start: number; end: number }[] = [];

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }

  add(cluster: number): void {
    const last = this.#runs.at(-1);
    if (last?.end === cluster) last.end += 1;
    else this.#runs.push({ start: cluster, end: cluster + 1 });
  }

  /** Nobody reads what is free: a host that cannot take it back costs storage only. */
  punch(file: BarrierFile): void {
    for (const { start, end } of this.#runs) {
      const from = Math.ceil((start * this.#clusterSize) / HOST_BLOCK) * HOST_BLOCK;
      const to = Math.floor((end * this.#clusterSize) / HOST_BLOCK) * HOST_BLOCK;
      if (to <= from) continue;
      try {
        file.punch(from, to - from);
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
        return;
      }
    }
  }
}
