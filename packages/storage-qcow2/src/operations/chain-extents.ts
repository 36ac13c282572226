import type { DiskImage } from "../disk-image.ts";

/** A run of a disk that comes from one image of its chain in one way. */
export interface ChainExtent {
  readonly length: number;
  /** 0 is the image itself, 1 its backing image … */
  readonly depth: number;
  /** The image at that depth. */
  readonly image: DiskImage;
  /** False where no image of the chain has anything; of images above a base, where the base shows through. */
  readonly isPresent: boolean;
  readonly isZero: boolean;
  readonly isData: boolean;
  readonly isCompressed: boolean;
  /** Where the bytes lie in the image's file (or its data file). */
  readonly fileOffset: number | undefined;
}

/**
 * The longest run from `offset`, at most `length`, that one image of the chain answers for.
 * @param base stops above this image: what only it and those below have counts as not present
 */
export function chainExtentAt(
  image: DiskImage,
  offset: number,
  length: number,
  base?: DiskImage,
): ChainExtent {
  let room = Math.min(length, image.size - offset);
  let layer = image;
  for (let depth = 0; ; depth += 1) {
    const extent = layer.extentAt(offset, Math.min(room, layer.size - offset));
    room = extent.length;
    if (extent.kind !== "unallocated") {
      const isCompressed = extent.kind === "compressed";
      return {
        length: room,
        depth,
        image: layer,
        isPresent: true,
        isZero: extent.kind === "zero" || extent.isHole === true,
        isData: extent.kind !== "zero",
        isCompressed,
        fileOffset: isCompressed ? undefined : extent.fileOffset,
      };
    }
    const below = layer.backing === base ? undefined : layer.backing;
    if (below === undefined || offset >= below.size) {
      // A backing image that ends early has zeroes behind its end, and hides what the base has there.
      const isPresent = base !== undefined && below !== undefined;
      const nothing = { isData: false, isCompressed: false, fileOffset: extent.fileOffset };
      return { length: room, depth, image: layer, isPresent, isZero: true, ...nothing };
    }
    layer = below;
  }
}

/** The extents of a range, neighbours that differ in nothing joined. */
export function* chainExtents(
  image: DiskImage,
  start = 0,
  end: number = image.size,
  base?: DiskImage,
): Generator<ChainExtent & { readonly start: number }> {
  let at = start;
  let current: (ChainExtent & { start: number; length: number }) | undefined;
  while (at < end) {
    const next = chainExtentAt(image, at, end - at, base);
    if (
      current?.image === next.image &&
      current.isPresent === next.isPresent &&
      current.isZero === next.isZero &&
      current.isData === next.isData &&
      current.isCompressed === next.isCompressed &&
      (current.fileOffset === undefined
        ? next.fileOffset === undefined
        : next.fileOffset === current.fileOffset + current.length)
    ) {
      current.length += next.length;
    } else {
      if (current !== undefined) yield current;
      current = { ...next, start: at };
    }
    at += next.length;
  }
  if (current !== undefined) yield current;
}
