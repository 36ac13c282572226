import type { DiskImage } from "../disk-image.ts";
import type { Qcow2Image } from "../qcow2/qcow2-image.ts";
import type { Progress } from "./copy-image.ts";

const CHUNK = 1 << 20;

/**
 * Makes an image keep its content on another backing image: what the old and the new one differ in, and the image does
 * not have itself, is written into it. The caller then changes the name of the backing file.
 * @param next the new backing image, or none
 */
export function copyForRebase(image: Qcow2Image, next: DiskImage | undefined, onProgress?: Progress): void {
  const old = image.backing;
  const { clusterSize } = image.meta;
  const step = Math.max(CHUNK, clusterSize);
  const before = new Uint8Array(step);
  const after = new Uint8Array(step);
  let at = 0;
  while (at < image.size) {
    const extent = image.extentAt(at, image.size - at);
    if (extent.kind !== "unallocated") {
      at += extent.length;
      continue;
    }
    const length = Math.min(extent.length, step - (at % step));
    const was = before.subarray(0, length);
    const is = after.subarray(0, length);
    if (old === undefined) was.fill(0);
    else old.readAt(at, was);
    if (next === undefined) is.fill(0);
    else next.readAt(at, is);
    if (Buffer.compare(was, is) !== 0) writeDifferences(image, at, was, is);
    at += length;
    onProgress?.(at, image.size);
  }
  image.flushNow();
}

/** Writes the clusters that differ. A cluster that is partly allocated may be cut by the range. */
function writeDifferences(image: Qcow2Image, offset: number, was: Uint8Array, is: Uint8Array): void {
  const { clusterSize } = image.meta;
  let done = 0;
  while (done < was.length) {
    const length = Math.min(clusterSize - ((offset + done) % clusterSize), was.length - done);
    const bytes = was.subarray(done, done + length);
    if (Buffer.compare(bytes, is.subarray(done, done + length)) !== 0) image.writeAt(offset + done, bytes);
    done += length;
  }
}
