import type { DiskImage } from "../disk-image.ts";
import { ImageError } from "../image-error.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import type { RawImage } from "../raw/raw-image.ts";
import { chainExtentAt } from "./chain-extents.ts";
import type { Progress } from "./copy-image.ts";

const CHUNK = 2 << 20;

/** An image that commit may make longer. */
const canGrow = (image: DiskImage): image is Qcow2Image | RawImage => "resize" in image;

/** Makes the base of a commit as long as what is committed, where it is shorter. */
export function growTo(base: DiskImage, size: number): void {
  if (base.size >= size) return;
  if (!canGrow(base)) throw new ImageError(base.path, "request", "the image cannot grow");
  base.resize(size);
}

/** Images above `base`, from the top. @throws where `base` is not below `top` */
export function imagesAbove(top: DiskImage, base: DiskImage): DiskImage[] {
  const above: DiskImage[] = [];
  for (let image: DiskImage | undefined = top; image !== base; image = image.backing) {
    if (image === undefined) throw new ImageError(top.path, "request", `${base.path} is not below the image`);
    above.push(image);
  }
  return above;
}

/**
 * Writes what the images above `base` have into it, so that it reads as the top does. The base grows where the top is
 * longer; what it then has behind the top's end stays.
 */
export function commitImage(top: DiskImage, base: DiskImage, onProgress?: Progress): void {
  if (imagesAbove(top, base).length === 0) return;
  growTo(base, top.size);
  const buffer = new Uint8Array(CHUNK);
  let at = 0;
  while (at < top.size) {
    const extent = chainExtentAt(top, at, top.size - at, base);
    const length = Math.min(extent.length, extent.isData ? CHUNK : extent.length);
    if (extent.isData) {
      const bytes = buffer.subarray(0, length);
      top.readAt(at, bytes);
      base.writeAt(at, bytes);
    } else if (extent.isPresent) base.writeZeroesAt(at, length, true);
    at += length;
    onProgress?.(at, top.size);
  }
  base.flushNow();
}

/** Gives up all clusters of an image, so that it shows its backing image. */
export function emptyImage(image: DiskImage): void {
  if (!(image instanceof Qcow2Image)) {
    throw new ImageError(image.path, "request", "a raw image cannot be emptied");
  }
  image.unmapAt(0, image.size);
  image.flushNow();
}
