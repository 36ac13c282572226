import type { BlockBackend } from "@northbridge/sdk";
import type { DiskImage } from "../disk-image.ts";
import { chainExtents } from "../operations/chain-extents.ts";
import type { Bitmap } from "../qcow2/bitmap.ts";
import { AllocationState, BASE_ALLOCATION, DIRTY_BITMAP_PREFIX, DirtyState } from "./spec.ts";

/** A run of a disk and the flags that a metadata context has for it. */
export interface StatusExtent {
  readonly length: number;
  readonly flags: number;
}

/** What a metadata context says of a disk, from `offset` on, at most to `end`. */
export type StatusSource = (offset: number, end: number) => Iterable<StatusExtent>;

/** A disk that a server offers. */
export interface NbdExport {
  /** As clients ask for it; the empty name is the default export. */
  readonly name: string;
  readonly description?: string;
  readonly disk: BlockBackend;
  /** By full name: `base:allocation` … */
  readonly contexts: ReadonlyMap<string, StatusSource>;
  readonly preferredBlockBytes?: number;
}

/** Offers an image, with what it knows of its allocation and with some of its bitmaps. */
export function exportImage(image: DiskImage, name: string, bitmaps: readonly Bitmap[] = []): NbdExport {
  const contexts = new Map<string, StatusSource>([[BASE_ALLOCATION, allocationOf(image)]]);
  for (const bitmap of bitmaps) contexts.set(DIRTY_BITMAP_PREFIX + bitmap.name, dirtyOf(bitmap));
  return { name, disk: image, contexts };
}

const allocationOf = (image: DiskImage): StatusSource =>
  function* (offset, end) {
    let current: { length: number; flags: number } | undefined;
    for (const extent of chainExtents(image, offset, end)) {
      const flags = (extent.isData ? 0 : AllocationState.HOLE) | (extent.isZero ? AllocationState.ZERO : 0);
      if (current?.flags === flags) current.length += extent.length;
      else {
        if (current !== undefined) yield current;
        current = { length: extent.length, flags };
      }
    }
    if (current !== undefined) yield current;
  };

const dirtyOf = (bitmap: Bitmap): StatusSource =>
  function* (offset, end) {
    for (const { length, isDirty } of bitmap.runs(offset, end)) {
      yield { length, flags: isDirty ? DirtyState.DIRTY : 0 };
    }
  };
