import { ImageError } from "../image-error.ts";
import { chainExtentAt } from "../operations/chain-extents.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { breathe, JOB_CHUNK, type JobOptions } from "./job.ts";
import type { LiveDisk } from "./live-disk.ts";

/**
 * Copies into the top image what it shows of the images below, while the guest writes; at the end it stands on nothing,
 * and the images below are closed.
 */
export async function stream(disk: LiveDisk, options: JobOptions = {}): Promise<void> {
  const top = disk.image;
  if (!(top instanceof Qcow2Image))
    throw new ImageError(top.path, "request", "only a qcow2 image stands on another");
  const keepsSize = {};
  disk.observe(keepsSize);
  try {
    let at = 0;
    while (at < top.size) {
      // What is read and written in one turn cannot be older than what the guest writes.
      const extent = top.extentAt(at, Math.min(JOB_CHUNK, top.size - at));
      if (extent.kind === "unallocated") {
        const below = chainExtentAt(top, at, extent.length);
        if (below.isData) {
          const bytes = new Uint8Array(below.length);
          top.readAt(at, bytes);
          top.copyUp(at, bytes);
        }
        at += below.length;
      } else at += extent.length;
      options.onProgress?.(at, top.size);
      await breathe(options.signal);
    }
  } finally {
    disk.forget(keepsSize);
  }
  top.detachBacking();
}
