import { ImageError } from "../image-error.ts";
import { type ClusterEntry, entryAt, ownsCluster, storeEntry, UNALLOCATED } from "./cluster-map.ts";
import type { CompressedClusters } from "./compressed-clusters.ts";
import { compress } from "./compression.ts";
import { hasRawDataFile } from "./header.ts";
import type { Qcow2Metadata } from "./metadata.ts";
import { type Change, PendingWrite } from "./pending-write.ts";
import { keepStorage, type Preallocation, writeZeroes } from "../operations/preallocate.ts";
import { SUBCLUSTERS } from "./spec.ts";

/** Clusters that {@link ClusterWriter.preallocate} maps at once. */
const MAX_MAPPED_AT_ONCE = 1024;

/** What a writer needs of the image whose clusters it changes. */
export interface OldContent {
  hasBacking(): boolean;
  /** Reads the guest's bytes as they are now, from the backing image where need be. */
  readOld(offset: number, into: Uint8Array): void;
}

/** Changes guest clusters: in place, by copy on write, compressed, to zeroes, to nothing. */
export class ClusterWriter {
  readonly #meta: Qcow2Metadata;
  readonly #compressed: CompressedClusters;
  readonly #old: OldContent;
  /** Where the next compressed cluster may start, inside a cluster that has room, or 0. */
  #packAt = 0;

  constructor(meta: Qcow2Metadata, compressed: CompressedClusters, old: OldContent) {
    this.#meta = meta;
    this.#compressed = compressed;
    this.#old = old;
  }

  write(offset: number, from: Uint8Array): void {
    const { clusterSize } = this.#meta;
    // Clusters that land next to each other go out in one write.
    const pending = new PendingWrite(this.#meta, (old) => this.#free(old));
    try {
      let done = 0;
      while (done < from.length) {
        const within = (offset + done) % clusterSize;
        const length = Math.min(clusterSize - within, from.length - done);
        const cluster = Math.floor((offset + done) / clusterSize);
        this.#writeCluster(cluster, within, from, done, length, pending);
        done += length;
        if (pending.isEmpty) this.#meta.bound();
      }
      pending.flush();
    } finally {
      pending.giveUp();
    }
    this.#meta.bound();
  }

  #writeCluster(
    cluster: number,
    within: number,
    from: Uint8Array,
    start: number,
    length: number,
    pending: PendingWrite,
  ): void {
    const meta = this.#meta;
    const entry = entryAt(meta, cluster);
    const inPlace = this.#isWritableInPlace(entry, cluster);
    if (inPlace && entry.kind === "data") {
      pending.add(entry.hostOffset + within, from, start, length);
      return;
    }
    const full = length === meta.clusterSize;
    if (!full) pending.flush();
    const hostOffset = inPlace ? entry.hostOffset : this.#allocate(cluster);
    const next: ClusterEntry = { ...UNALLOCATED, kind: "data", hostOffset, isCopied: true };
    if (meta.isExtendedL2) this.#subclustersAfterWrite(next, entry, within, length);
    const change: Change = { cluster, next, old: inPlace ? undefined : entry };
    if (full) pending.add(hostOffset, from, start, length, change);
    else {
      pending.expect(change);
      this.#writeAround(cluster, entry, inPlace, within, from.subarray(start, start + length), hostOffset);
      pending.flush();
    }
    if (meta.isExtendedL2 || entry.kind === "compressed") pending.flush();
  }

  /** Writes part of a cluster together with the bytes around it that must move with it. */
  #writeAround(
    cluster: number,
    entry: ClusterEntry,
    inPlace: boolean,
    within: number,
    part: Uint8Array,
    hostOffset: number,
  ): void {
    const meta = this.#meta;
    let first = 0;
    let end = meta.clusterSize;
    if (meta.isExtendedL2) {
      // Only the subclusters that the write touches become allocated, and those that were must move.
      const size = meta.clusterSize / SUBCLUSTERS;
      const needed = touched(size, within, part.length) | (inPlace ? 0 : movedSubclusters(entry));
      first = ctz(needed) * size;
      end = (32 - Math.clz32(needed)) * size;
      if (inPlace) {
        // Between them may lie subclusters with data of their own, which stay where they are.
        first = Math.floor(within / size) * size;
        end = Math.ceil((within + part.length) / size) * size;
      }
    }
    const base = cluster * meta.clusterSize;
    const bytes = new Uint8Array(end - first);
    this.#old.readOld(base + first, bytes);
    bytes.set(part, within - first);
    meta.writeData(hostOffset + first, bytes);
  }

  #subclustersAfterWrite(next: ClusterEntry, old: ClusterEntry, within: number, length: number): void {
    const written = touched(this.#meta.clusterSize / SUBCLUSTERS, within, length);
    next.kind = "subclusters";
    next.allocated = (movedSubclusters(old) | written) >>> 0;
    next.zeroes = (old.zeroes & ~written) >>> 0;
    if (old.kind === "compressed") next.zeroes = 0;
  }

  #isWritableInPlace(entry: ClusterEntry, cluster: number): boolean {
    if (entry.kind === "compressed" || !entry.isCopied || !ownsCluster(entry)) return false;
    const meta = this.#meta;
    if (meta.hasDataFile) {
      if (entry.hostOffset !== cluster * meta.clusterSize) {
        meta.corrupt(
          `guest cluster ${cluster} lies at ${entry.hostOffset} of the data file, not at its own offset`,
        );
      }
    } else if (meta.isMetadata(entry.hostOffset / meta.clusterSize)) {
      meta.markCorrupt(`guest cluster ${cluster} lies at ${entry.hostOffset}, over metadata`);
    }
    return true;
  }

  /** A new cluster; in an external data file, the one at the guest's own offset. */
  #allocate(cluster: number): number {
    return this.#meta.hasDataFile ? cluster * this.#meta.clusterSize : this.#meta.refcounts.allocate(1);
  }

  #free(entry: ClusterEntry): void {
    const meta = this.#meta;
    if (entry.kind === "compressed") {
      // The cluster with room may come back as something else.
      this.#packAt = 0;
      const first = Math.floor(entry.hostOffset / meta.clusterSize);
      const last = Math.floor((entry.hostOffset + entry.compressedBytes - 1) / meta.clusterSize);
      meta.refcounts.release(first * meta.clusterSize, last - first + 1);
    } else if (ownsCluster(entry) && !meta.hasDataFile) meta.refcounts.release(entry.hostOffset, 1);
  }

  /**
   * Compresses one guest cluster, shorter only at the image's end, into the free part of a cluster.
   */
  writeCompressed(offset: number, from: Uint8Array, packed?: Uint8Array): void {
    const meta = this.#meta;
    const { clusterSize } = meta;
    if (meta.hasDataFile) {
      throw new ImageError(meta.path, "request", "compressed clusters cannot lie in an external data file");
    }
    if (meta.isEncrypted)
      throw new ImageError(meta.path, "request", "compressed clusters cannot be encrypted");
    if (offset % clusterSize !== 0 || from.length > clusterSize) {
      throw new ImageError(meta.path, "request", "only whole clusters can be compressed");
    }
    let whole = from;
    if (from.length < clusterSize) {
      whole = new Uint8Array(clusterSize);
      whole.set(from);
    }
    const bytes = packed ?? compress(meta.header.compressionType, whole);
    if (bytes.length >= clusterSize) {
      this.write(offset, from);
      return;
    }
    const cluster = offset / clusterSize;
    const old = entryAt(meta, cluster);
    const hostOffset = this.#placeCompressed(bytes.length);
    this.#compressed.forget();
    const next: ClusterEntry = {
      ...UNALLOCATED,
      kind: "compressed",
      hostOffset,
      compressedBytes: bytes.length,
    };
    try {
      meta.file.write(hostOffset, bytes);
      storeEntry(meta, cluster, next);
    } catch (error) {
      this.#free(next);
      throw error;
    }
    this.#free(old);
    meta.bound();
  }

  /** Packs the next compressed cluster into one of its own: others may have been freed meanwhile. */
  forgetPacking(): void {
    this.#packAt = 0;
    this.#compressed.forget();
  }

  /** Room for `length` bytes, counted in each host cluster that they touch. */
  #placeCompressed(length: number): number {
    const { refcounts, clusterSize } = this.#meta;
    let at = this.#packAt;
    const left = at === 0 ? 0 : clusterSize - (at % clusterSize);
    const cluster = Math.floor(at / clusterSize);
    const canShare = left > 0 && refcounts.get(cluster) > 0 && refcounts.get(cluster) < refcounts.max;
    if (canShare && length <= left) refcounts.increment(cluster);
    else if (canShare && refcounts.takeIfFree(cluster + 1)) refcounts.increment(cluster);
    else at = refcounts.allocate(1);
    const end = at + length;
    this.#packAt = end % clusterSize === 0 ? 0 : end;
    return at;
  }

  /** Maps what is not mapped to clusters of its own, which come with storage as `mode` says. */
  preallocate(offset: number, end: number, mode: Exclude<Preallocation, "off">): void {
    const meta = this.#meta;
    const { clusterSize } = meta;
    const taken: Change[] = [];
    /** Maps the first `count`, which lie one behind the other. */
    const map = (count: number): void => {
      this.#giveStorage(taken[0]?.next.hostOffset ?? 0, count * clusterSize, mode);
      for (const { cluster, next } of taken.slice(0, count)) {
        storeEntry(meta, cluster, next);
        taken.shift();
        meta.bound();
      }
    };
    try {
      for (let cluster = Math.floor(offset / clusterSize); cluster * clusterSize < end; cluster += 1) {
        const old = entryAt(meta, cluster);
        const isFree = old.kind === "subclusters" ? old.allocated === 0 : old.kind === "unallocated";
        if (!isFree || ownsCluster(old)) continue;
        const hostOffset = this.#allocate(cluster);
        const kind = meta.isExtendedL2 ? "subclusters" : "data";
        const last = taken.at(-1)?.next.hostOffset ?? hostOffset - clusterSize;
        const next: ClusterEntry = { ...UNALLOCATED, kind, zeroes: old.zeroes, hostOffset, isCopied: true };
        taken.push({ cluster, next, old });
        if (last + clusterSize !== hostOffset || taken.length > MAX_MAPPED_AT_ONCE) map(taken.length - 1);
      }
      if (taken.length > 0) map(taken.length);
    } catch (error) {
      for (const { next } of taken) this.#free(next);
      throw error;
    }
  }

  /** Makes new clusters read as zeroes, which hold anything where they were in use before. */
  #giveStorage(start: number, length: number, mode: Exclude<Preallocation, "off">): void {
    const { dataFile } = this.#meta;
    const used = Math.min(length, Math.max(0, dataFile.file.size() - start));
    if (used < length) dataFile.truncate(start + length);
    if (mode === "full" && this.#meta.isEncrypted) {
      this.#meta.writeData(start, new Uint8Array(length));
      return;
    }
    if (used > 0 && mode !== "full" && !dataFile.punch(start, used)) writeZeroes(dataFile, start, used);
    if (mode === "full") writeZeroes(dataFile, start, length);
    if (mode === "falloc") keepStorage(dataFile, start, length);
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): void {
    this.#eachCluster(offset, length, {
      part: (at, bytes) => this.#writePlainZeroes(at, bytes),
      whole: (cluster, bytes) => this.#zeroCluster(cluster, bytes, mayUnmap),
    });
  }

  #writePlainZeroes(offset: number, length: number): void {
    const cluster = Math.floor(offset / this.#meta.clusterSize);
    const entry = entryAt(this.#meta, cluster);
    if (entry.kind === "zero" || (entry.kind === "unallocated" && !this.#old.hasBacking())) return;
    this.write(offset, new Uint8Array(length));
  }

  #zeroCluster(cluster: number, length: number, mayUnmap: boolean): void {
    const meta = this.#meta;
    const entry = entryAt(meta, cluster);
    if (entry.kind === "unallocated" && !this.#old.hasBacking() && !hasRawDataFile(meta.header)) return;
    if (meta.header.version === 2) {
      if (this.#old.hasBacking()) this.write(cluster * meta.clusterSize, new Uint8Array(length));
      else this.#replace(cluster, entry, UNALLOCATED);
      return;
    }
    if (hasRawDataFile(meta.header)) meta.writeData(cluster * meta.clusterSize, new Uint8Array(length));
    const keep = (!mayUnmap || meta.hasDataFile) && entry.isCopied && ownsCluster(entry);
    const next: ClusterEntry = {
      ...UNALLOCATED,
      kind: meta.isExtendedL2 ? "subclusters" : "zero",
      zeroes: meta.isExtendedL2 ? 0xffffffff : 0,
      hostOffset: keep ? entry.hostOffset : 0,
      isCopied: keep,
    };
    this.#replace(cluster, entry, next, keep);
  }

  /** Whole clusters read as zeroes afterwards; parts of clusters stay, for a discard is advice. */
  discard(offset: number, length: number): void {
    const meta = this.#meta;
    // A version 2 image cannot say "zeroes" over a backing image.
    if (meta.header.version === 2 && this.#old.hasBacking()) return;
    this.#eachCluster(offset, length, {
      part: () => undefined,
      whole: (cluster, bytes) => this.#zeroCluster(cluster, bytes, true),
    });
  }

  /** Makes whole clusters that have content of their own read as zeroes; others show the backing image as before. */
  blank(offset: number, length: number): void {
    const { header, clusterSize } = this.#meta;
    this.#eachCluster(offset, length, {
      part: () => undefined,
      whole: (cluster, bytes) => {
        if (entryAt(this.#meta, cluster).kind === "unallocated") return;
        if (header.version === 2) this.write(cluster * clusterSize, new Uint8Array(bytes));
        else this.#zeroCluster(cluster, bytes, true);
      },
    });
  }

  /** Drops clusters, so that the backing image shows through. */
  unmap(offset: number, length: number): void {
    this.#eachCluster(offset, length, {
      part: () => undefined,
      whole: (cluster) => {
        const entry = entryAt(this.#meta, cluster);
        if (entry.kind !== "unallocated") this.#replace(cluster, entry, UNALLOCATED);
      },
    });
  }

  #replace(cluster: number, old: ClusterEntry, next: ClusterEntry, keepsCluster = false): void {
    const same =
      old.kind === next.kind &&
      old.hostOffset === next.hostOffset &&
      old.zeroes === next.zeroes &&
      old.isCopied === next.isCopied;
    if (same) return;
    storeEntry(this.#meta, cluster, next);
    if (!keepsCluster) this.#free(old);
    this.#meta.bound();
  }

  /** Splits a range at clusters. The image's last cluster is whole though the image may end inside it. */
  #eachCluster(
    offset: number,
    length: number,
    visit: {
      readonly part: (offset: number, length: number) => void;
      readonly whole: (cluster: number, length: number) => void;
    },
  ): void {
    const { clusterSize, header } = this.#meta;
    let at = offset;
    const end = offset + length;
    while (at < end) {
      const within = at % clusterSize;
      const bytes = Math.min(clusterSize - within, end - at);
      const isWhole = within === 0 && (bytes === clusterSize || at + bytes === header.size);
      if (isWhole) visit.whole(at / clusterSize, bytes);
      else visit.part(at, bytes);
      at += bytes;
    }
  }
}

/** Subclusters of a cluster that a range touches, as bits. */
function touched(size: number, within: number, length: number): number {
  const first = Math.floor(within / size);
  const end = Math.ceil((within + length) / size);
  return (((2 ** (end - first) - 1) * 2 ** first) | 0) >>> 0;
}

/** Subclusters whose bytes must be copied when the cluster moves; of a compressed cluster, all. */
const movedSubclusters = (entry: ClusterEntry): number =>
  entry.kind === "compressed" ? 0xffffffff : entry.allocated >>> 0;

const ctz = (bits: number): number => 31 - Math.clz32(bits & -bits);
