import type { Qcow2Metadata } from "./metadata.ts";
import {
  COMPRESSED_HI,
  COPIED_HI,
  L2_RESERVED_HI,
  OFFSET_HI,
  OFFSET_LO,
  SUBCLUSTERS,
  ZERO_LO,
} from "./spec.ts";

/** One L2 entry, decoded. */
export interface ClusterEntry {
  /** `data` and `zero` of a cluster; with extended L2 the bitmaps say it by subcluster. */
  kind: "unallocated" | "zero" | "data" | "compressed" | "subclusters";
  /** Where its cluster lies, or 0; of a compressed one, its first byte. */
  hostOffset: number;
  /** The refcount is exactly 1: it may be written in place. */
  isCopied: boolean;
  /** Bytes from `hostOffset` to the end of the last sector of a compressed cluster. */
  compressedBytes: number;
  /** Bit n: subcluster n is allocated. */
  allocated: number;
  /** Bit n: subcluster n reads as zeroes. */
  zeroes: number;
}

/** The entry of a cluster that shows the backing image. */
export const UNALLOCATED: Readonly<ClusterEntry> = {
  kind: "unallocated",
  hostOffset: 0,
  isCopied: false,
  compressedBytes: 0,
  allocated: 0,
  zeroes: 0,
};

/** Decodes the entry of a guest cluster (docs/interop/qcow2: Cluster mapping). */
export function entryAt(meta: Qcow2Metadata, cluster: number): ClusterEntry {
  const index = cluster % meta.entriesPerL2;
  const table = meta.l2TableOffset(Math.floor(cluster / meta.entriesPerL2));
  if (table === 0) return { ...UNALLOCATED };
  return entryOf(meta, table, index, cluster);
}

/** Decodes entry `index` of the L2 table at `table`, which maps guest cluster `cluster`. */
export function entryOf(meta: Qcow2Metadata, table: number, index: number, cluster: number): ClusterEntry {
  const { view } = meta.l2Slice(table, index);
  const at = (index % meta.entriesPerSlice) * meta.entryBytes;
  const allocated = meta.isExtendedL2 ? view.getUint32(at + 12) : 0;
  const zeroes = meta.isExtendedL2 ? view.getUint32(at + 8) : 0;
  return decodeEntry(meta, view.getUint32(at), view.getUint32(at + 4), allocated, zeroes, cluster);
}

function decodeEntry(
  meta: Qcow2Metadata,
  hi: number,
  lo: number,
  allocated: number,
  zeroes: number,
  cluster: number,
): ClusterEntry {
  const isCopied = (hi & COPIED_HI) !== 0;
  if ((hi & COMPRESSED_HI) !== 0) {
    if (meta.hasDataFile) meta.corrupt(`guest cluster ${cluster} is compressed in an external data file`);
    const sectorShift = 62 - (meta.clusterBits - 8) - 32;
    const hostOffset = (hi & (2 ** sectorShift - 1)) * 2 ** 32 + lo;
    const sectors = ((hi & 0x3fffffff) >>> sectorShift) + 1;
    if (!Number.isSafeInteger(hostOffset)) meta.corrupt(`guest cluster ${cluster} lies at ${hostOffset}`);
    return {
      kind: "compressed",
      hostOffset,
      isCopied: false,
      compressedBytes: sectors * 512 - (hostOffset % 512),
      allocated,
      zeroes,
    };
  }
  const hostOffset = (hi & OFFSET_HI) * 2 ** 32 + ((lo & OFFSET_LO) >>> 0);
  if (hostOffset % meta.clusterSize !== 0 || !Number.isSafeInteger(hostOffset)) {
    meta.corrupt(`guest cluster ${cluster} lies at ${hostOffset}, which is not a cluster`);
  }
  if ((hi & L2_RESERVED_HI) !== 0 && meta.header.version === 3) {
    meta.corrupt(`the L2 entry of guest cluster ${cluster} has reserved bits set`);
  }
  const hasCluster = hostOffset !== 0 || (meta.hasDataFile && isCopied);
  if (meta.isExtendedL2) {
    if ((allocated & zeroes) !== 0) {
      meta.corrupt(`guest cluster ${cluster} has subclusters both allocated and zero`);
    }
    if (allocated !== 0 && !hasCluster)
      meta.corrupt(`guest cluster ${cluster} has subclusters but no cluster`);
    return { kind: "subclusters", hostOffset, isCopied, compressedBytes: 0, allocated, zeroes };
  }
  const isZero = (lo & ZERO_LO) !== 0;
  if (isZero && meta.header.version === 2) {
    meta.corrupt(`guest cluster ${cluster} is a zero cluster in a version 2 image`);
  }
  return {
    kind: isZero ? "zero" : hasCluster ? "data" : "unallocated",
    hostOffset,
    isCopied,
    compressedBytes: 0,
    allocated: 0,
    zeroes: 0,
  };
}

/** True when the entry has a cluster of its own to count, other than a compressed one. */
export const ownsCluster = (entry: ClusterEntry): boolean =>
  entry.kind !== "compressed" && (entry.hostOffset !== 0 || entry.isCopied);

/** What stands in the L2 table for `entry` at guest cluster `cluster`. */
export function storeEntry(meta: Qcow2Metadata, cluster: number, entry: ClusterEntry): void {
  const table = meta.writableL2Table(Math.floor(cluster / meta.entriesPerL2));
  const index = cluster % meta.entriesPerL2;
  const slice = meta.l2Slice(table, index);
  const at = (index % meta.entriesPerSlice) * meta.entryBytes;
  const { view } = slice;
  let hi = Math.floor(entry.hostOffset / 2 ** 32);
  let lo = entry.hostOffset >>> 0;
  if (entry.kind === "compressed") {
    const sectors = Math.floor((entry.hostOffset % 512) + entry.compressedBytes - 1) >>> 9;
    hi = (hi | COMPRESSED_HI | (sectors << (62 - (meta.clusterBits - 8) - 32))) >>> 0;
  } else {
    if (entry.isCopied) hi = (hi | COPIED_HI) >>> 0;
    if (entry.kind === "zero") lo = (lo | ZERO_LO) >>> 0;
  }
  view.setUint32(at, hi);
  view.setUint32(at + 4, lo);
  if (meta.isExtendedL2) {
    view.setUint32(at + 8, entry.zeroes);
    view.setUint32(at + 12, entry.allocated);
  }
  meta.markL2Dirty(slice);
}

/** A run of guest bytes that lie together. */
export interface Run {
  kind: "unallocated" | "zero" | "data" | "compressed";
  length: number;
  /** Where the run's first byte lies, or would lie in a cluster that is there; below 0 where there is none. */
  hostOffset: number;
  entry: ClusterEntry;
}

/** The longest run from `offset`, at most `length` bytes; one cluster of a compressed one. */
export function runAt(meta: Qcow2Metadata, offset: number, length: number): Run {
  const run = pieceAt(meta, offset, length);
  if (run.kind === "compressed") return run;
  while (run.length < length) {
    const next = pieceAt(meta, offset + run.length, length - run.length);
    if (next.kind !== run.kind) break;
    const isNext = next.hostOffset === run.hostOffset + run.length;
    if ((run.hostOffset >= 0 || next.hostOffset >= 0) && !isNext) break;
    run.length += next.length;
  }
  return run;
}

/** The part of one cluster from `offset` that is of one kind. A `hostOffset` below 0: it has no cluster. */
function pieceAt(meta: Qcow2Metadata, offset: number, length: number): Run {
  const cluster = Math.floor(offset / meta.clusterSize);
  const within = offset % meta.clusterSize;
  const room = Math.min(length, meta.clusterSize - within);
  if (meta.l2TableOffset(Math.floor(cluster / meta.entriesPerL2)) === 0) {
    const tableBytes = meta.entriesPerL2 * meta.clusterSize;
    const entry = entryAt(meta, cluster);
    return {
      kind: "unallocated",
      length: Math.min(length, tableBytes - (offset % tableBytes)),
      hostOffset: -1,
      entry,
    };
  }
  const entry = entryAt(meta, cluster);
  if (entry.kind !== "subclusters") {
    const has = entry.kind === "data" || (entry.kind === "zero" && ownsCluster(entry));
    return { kind: entry.kind, length: room, hostOffset: has ? entry.hostOffset + within : -1, entry };
  }
  const size = meta.clusterSize / SUBCLUSTERS;
  const first = Math.floor(within / size);
  const kind = subclusterKind(entry, first);
  let end = first + 1;
  while (end < SUBCLUSTERS && subclusterKind(entry, end) === kind) end += 1;
  const has = kind === "data" || ownsCluster(entry);
  return {
    kind,
    length: Math.min(length, end * size - within),
    hostOffset: has ? entry.hostOffset + within : -1,
    entry,
  };
}

export function subclusterKind(entry: ClusterEntry, index: number): "data" | "zero" | "unallocated" {
  const bit = 1 << index;
  if ((entry.allocated & bit) !== 0) return "data";
  return (entry.zeroes & bit) !== 0 ? "zero" : "unallocated";
}
