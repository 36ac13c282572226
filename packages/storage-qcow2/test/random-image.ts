import type { Qcow2CreateOptions } from "../src/qcow2/create.ts";
import type { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import type { Random } from "./qemu.ts";

/** Options of a small image, biased to what breaks: tiny clusters, odd refcount widths, sizes off the cluster grid. */
export function randomOptions(random: Random): Qcow2CreateOptions {
  const extendedL2 = random.chance(4);
  const clusterSize = 2 ** (extendedL2 ? 14 + random.below(3) : random.pick([9, 9, 10, 12, 16, 16, 18, 21]));
  const version = !extendedL2 && random.chance(5) ? 2 : 3;
  return {
    size: 512 * (1 + random.below(clusterSize <= 4096 ? 1200 : 6000)),
    version,
    clusterSize,
    refcountBits: version === 2 ? 16 : 2 ** random.below(7),
    lazyRefcounts: version === 3 && random.chance(4),
    extendedL2,
    compressionType: version === 3 && random.chance(2) ? "zstd" : "zlib",
  };
}

/** Does one random thing to the image and to the array that says what a guest must see. */
export function randomStep(random: Random, image: Qcow2Image, model: Uint8Array): void {
  const sectors = image.size / 512;
  const { clusterSize } = image.meta;
  const start = random.below(sectors);
  let offset = start * 512;
  let length = 512 * (1 + random.below(Math.min(sectors - start, random.chance(3) ? 400 : 20)));
  const kind = random.below(10);
  if (random.chance(2)) {
    offset -= offset % clusterSize;
    length = Math.min(image.size - offset, clusterSize * (1 + random.below(3)));
  }
  if (kind < 6) {
    const bytes = random.bytes(length);
    image.writeAt(offset, bytes);
    model.set(bytes, offset);
  } else if (kind === 6) {
    image.writeZeroesAt(offset, length, random.chance(2));
    model.fill(0, offset, offset + length);
  } else if (kind === 7) {
    image.discardAt(offset, length);
    // A discard is advice: the model takes what the image made of it, if it is either of the two allowed.
    const now = new Uint8Array(length);
    image.readAt(offset, now);
    for (const [index, byte] of now.entries()) if (byte === 0) model[offset + index] = 0;
  } else if (kind === 8 && !image.meta.hasDataFile) {
    offset -= offset % clusterSize;
    const bytes = random.bytes(Math.min(clusterSize, image.size - offset));
    image.writeCompressedCluster(offset, bytes);
    model.set(bytes, offset);
  } else image.flushNow();
}
