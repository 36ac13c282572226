import { ImageError } from "../image-error.ts";
import { growTo, imagesAbove } from "../operations/commit-image.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import type { JobOptions } from "./job.ts";
import type { DiskImage } from "../disk-image.ts";
import type { LiveDisk } from "./live-disk.ts";
import { MirrorJob } from "./mirror-job.ts";

/**
 * Writes what the images above `base` have into it, while the guest writes; then the guest goes on with `base`, and
 * the images above are closed and can be deleted.
 * @param base an image of the disk's chain, opened for writing
 * @throws what an image above failed to close with, once all are closed and the guest is on `base`, too
 */
export async function commit(disk: LiveDisk, base: DiskImage, options: JobOptions = {}): Promise<void> {
  const above = imagesAbove(disk.image, base);
  if (base.readOnly) throw new ImageError(base.path, "request", "the base was opened for reading only");
  disk.expectNotResizing();
  if (base.size > disk.size) {
    throw new ImageError(
      base.path,
      "request",
      `the base must have at most the disk's ${disk.size} bytes, found ${base.size}`,
    );
  }
  growTo(base, disk.size);
  const mirror = new MirrorJob(disk, base, { ...options, above: base });
  await mirror.run();
  await mirror.complete(true);
  const errors: unknown[] = [];
  for (const image of above) {
    try {
      if (image instanceof Qcow2Image) image.closeAlone();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}
