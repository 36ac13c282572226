import type { DiskImage } from "../disk-image.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { chainExtentAt } from "./chain-extents.ts";

/** Bytes that a file needs, as `qemu-img measure` says it. */
export interface Measurement {
  readonly required: number;
  readonly fullyAllocated: number;
  /** Of the bitmaps, where they can be copied. */
  readonly bitmaps: number | undefined;
}

/** The qcow2 image that is to be made. */
export interface MeasuredLayout {
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly extendedL2: boolean;
  readonly version: 2 | 3;
  /** The data will be allocated whether they are zeroes or not. */
  readonly isPreallocated: boolean;
  /** Bytes of the LUKS header. @defaultValue 0 */
  readonly luksBytes?: number;
}

/** What a qcow2 image of `size` bytes comes to, with the content of `source` where there is one. */
export function measureQcow2(
  layout: MeasuredLayout,
  size: number,
  source: DiskImage | undefined,
): Measurement {
  const { clusterSize } = layout;
  const virtualSize = Math.ceil(size / clusterSize) * clusterSize;
  let data = 0;
  if (source !== undefined) data = dataBytes(source, clusterSize);
  if (layout.isPreallocated) data = virtualSize;
  const fullyAllocated = allocatedSize(layout, virtualSize);
  return {
    required: fullyAllocated - virtualSize + data,
    fullyAllocated,
    bitmaps:
      source instanceof Qcow2Image && source.header.version === 3 && layout.version === 3
        ? bitmapBytes(source, clusterSize)
        : undefined,
  };
}

function dataBytes(source: DiskImage, clusterSize: number): number {
  let bytes = 0;
  let at = 0;
  while (at < source.size) {
    const extent = chainExtentAt(source, at, source.size - at);
    let { length } = extent;
    if (extent.isData && !extent.isZero) {
      length = Math.ceil((at + length) / clusterSize) * clusterSize - at;
      bytes += (at % clusterSize) + length;
    }
    at += length;
  }
  return bytes;
}

/** Header, tables and data of an image that has every cluster. */
function allocatedSize(
  { clusterSize, refcountBits, extendedL2, luksBytes = 0 }: MeasuredLayout,
  virtualSize: number,
): number {
  const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;
  const l2EntryBytes = extendedL2 ? 16 : 8;
  const l2Entries = roundUp(virtualSize / clusterSize, clusterSize / l2EntryBytes);
  const l2Bytes = l2Entries * l2EntryBytes;
  const l1Bytes = roundUp(l2Bytes / clusterSize, clusterSize / 8) * 8;
  const tables = clusterSize + l2Bytes + l1Bytes + roundUp(luksBytes, clusterSize);
  return (
    virtualSize + tables + refcountBytes((tables + virtualSize) / clusterSize, clusterSize, refcountBits)
  );
}

/** The refcount table and the blocks, which count themselves too. */
function refcountBytes(clusters: number, clusterSize: number, refcountBits: number): number {
  const perBlock = (clusterSize * 8) / refcountBits;
  let table = 0;
  let blocks = 0;
  for (;;) {
    const before = table + blocks;
    blocks = Math.ceil((clusters + before) / perBlock);
    table = Math.ceil(blocks / (clusterSize / 8));
    if (table + blocks === before) return before * clusterSize;
  }
}

/** Each bitmap's clusters and table, and the directory. */
function bitmapBytes(source: Qcow2Image, clusterSize: number): number {
  const bitmaps = source.bitmaps.list();
  let bytes = 0;
  let directory = 0;
  for (const { name, granularity, isInconsistent } of bitmaps) {
    if (isInconsistent) continue;
    const bits = Math.ceil(source.size / granularity);
    const clusters = Math.ceil(bits / 8 / clusterSize);
    bytes += clusters * clusterSize + Math.ceil((clusters * 8) / clusterSize) * clusterSize;
    directory += Math.ceil((24 + new TextEncoder().encode(name).length) / 8) * 8;
  }
  return bytes + Math.ceil(directory / clusterSize) * clusterSize;
}
