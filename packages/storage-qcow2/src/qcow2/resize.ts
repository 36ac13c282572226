import { ImageError } from "../image-error.ts";
import { l1EntriesFor } from "./header.ts";
import type { Qcow2Metadata } from "./metadata.ts";
import { MAX_L1_BYTES } from "./spec.ts";

/** What a resize needs of the image around the tables. */
export interface ResizableContent {
  readonly backingSize: number;
  /** Makes a range read as zeroes, not necessarily of whole clusters nor inside the disk's size. */
  writeZeroes(offset: number, length: number): void;
  /** Makes whole clusters that have content of their own read as zeroes. */
  blank(offset: number, length: number): void;
  /** Drops whole clusters. */
  unmap(offset: number, length: number): void;
  /** Fits an external data file to the disk. */
  setDataLength(length: number): void;
}

/**
 * Changes the size that the guest sees. What is new reads as zeroes, whatever the backing image has there.
 * @throws {@link ImageError} where the format does not allow it
 */
export function resizeQcow2(meta: Qcow2Metadata, content: ResizableContent, newSize: number): void {
  expectPossibleSize(meta, newSize);
  const { header } = meta;
  if (newSize === header.size) return;
  if (newSize > header.size) grow(meta, content, newSize);
  else shrink(meta, content, newSize);
}

/** @throws {@link ImageError} for a size that no image of this kind can have */
export function expectPossibleSize(meta: Qcow2Metadata, newSize: number): void {
  const { header } = meta;
  if (newSize % 512 !== 0 || !Number.isSafeInteger(newSize) || newSize < 0) {
    throw new ImageError(meta.path, "request", `the new size must be a multiple of 512, found ${newSize}`);
  }
  if (header.snapshotCount > 0 && header.version === 2) {
    throw new ImageError(
      meta.path,
      "unsupported",
      "an image of version 2 with snapshots cannot change its size",
    );
  }
}

function grow(meta: Qcow2Metadata, content: ResizableContent, newSize: number): void {
  const { header } = meta;
  const oldSize = header.size;
  const entries = l1EntriesFor(header, newSize);
  if (entries * 8 > MAX_L1_BYTES) {
    throw new ImageError(meta.path, "request", "the new size is too large for the image's clusters");
  }
  meta.settle();
  if (entries > meta.l1.entries) {
    const bytes = new Uint8Array(entries * 8);
    bytes.set(meta.l1.encoded());
    meta.switchL1(meta.writeNewTable(bytes), entries, oldSize);
  }
  // The rest of the last cluster may hold anything, and the backing image may be longer than this one was: both are
  // zeroes before the guest can see them.
  const clusterEnd = Math.min(newSize, Math.ceil(oldSize / meta.clusterSize) * meta.clusterSize);
  const end = Math.max(clusterEnd, Math.min(newSize, content.backingSize));
  if (end > oldSize) content.writeZeroes(oldSize, end - oldSize);
  content.setDataLength(newSize);
  meta.settle();
  meta.changeHeader({ size: newSize });
}

function shrink(meta: Qcow2Metadata, content: ResizableContent, newSize: number): void {
  const { header, clusterSize } = meta;
  const wholeClusters = (bytes: number): number => Math.ceil(bytes / clusterSize) * clusterSize;
  const firstGone = wholeClusters(newSize);
  const oldSize = header.size;
  const end = wholeClusters(oldSize);
  // Until the header says the new size nobody may see what the backing image has there, which may be older than old.
  const shown = Math.max(firstGone, Math.min(end, wholeClusters(content.backingSize)));
  if (firstGone < shown) content.blank(firstGone, shown - firstGone);
  if (shown < end) content.unmap(shown, end - shown);
  meta.settle();
  meta.changeHeader({ size: newSize });
  if (firstGone < shown) content.unmap(firstGone, shown - firstGone);
  meta.settle();
  const perTable = meta.entriesPerL2 * clusterSize;
  // Entries behind the disk's end may map the state of a virtual machine: those stay.
  const oldEnd = l1EntriesFor(header, oldSize);
  for (let index = Math.ceil(newSize / perTable); index < oldEnd; index += 1) {
    const table = meta.l2TableOffset(index);
    if (table === 0) continue;
    meta.l1.set(index, 0, 0);
    meta.dropL2(table);
    meta.forgetMetadata(table / meta.clusterSize);
    meta.refcounts.release(table, 1);
  }
  meta.settle();
  content.setDataLength(newSize);
}
