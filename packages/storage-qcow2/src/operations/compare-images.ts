import type { DiskImage } from "../disk-image.ts";
import { chainExtentAt } from "./chain-extents.ts";
import type { Progress } from "./copy-image.ts";
import { isZero } from "./zero-scan.ts";

/** How two disks differ, at the first place where they do. */
export type Difference =
  | { readonly kind: "size" }
  | { readonly kind: "content"; readonly offset: number }
  | { readonly kind: "allocation"; readonly offset: number };

const CHUNK = 2 << 20;

/**
 * Compares two disks; of the longer one the rest must be zeroes.
 * @param strict sizes and what is allocated must be the same too
 * @param hear `onLonger` is called where the shorter disk ended without a difference
 */
export function compareImages(
  one: DiskImage,
  two: DiskImage,
  strict: boolean,
  hear: { readonly onProgress?: Progress; readonly onLonger?: () => void } = {},
): Difference | undefined {
  if (strict && one.size !== two.size) return { kind: "size" };
  const total = Math.max(one.size, two.size);
  const common = Math.min(one.size, two.size);
  const a = new Uint8Array(CHUNK);
  const b = new Uint8Array(CHUNK);
  let at = 0;
  while (at < common) {
    const first = chainExtentAt(one, at, common - at);
    const second = chainExtentAt(two, at, first.length);
    const length = Math.min(second.length, CHUNK);
    if (strict && (first.isPresent !== second.isPresent || first.isData !== second.isData)) {
      return { kind: "allocation", offset: at };
    }
    if (!(first.isZero && second.isZero)) {
      const left = a.subarray(0, length);
      const right = b.subarray(0, length);
      one.readAt(at, left);
      two.readAt(at, right);
      if (Buffer.compare(left, right) !== 0)
        return { kind: "content", offset: at + firstDifference(left, right) };
    }
    at += first.isZero && second.isZero ? second.length : length;
    hear.onProgress?.(at, total);
  }
  if (at < total) hear.onLonger?.();
  const longer = one.size > two.size ? one : two;
  while (at < total) {
    const extent = chainExtentAt(longer, at, total - at);
    if (!extent.isZero) {
      const bytes = a.subarray(0, Math.min(CHUNK, extent.length));
      longer.readAt(at, bytes);
      if (!isZero(bytes))
        return { kind: "content", offset: at + firstDifference(bytes, new Uint8Array(bytes.length)) };
      at += bytes.length;
    } else at += extent.length;
    hear.onProgress?.(at, total);
  }
  return undefined;
}

/** The first sector that differs, as QEMU reports it. */
function firstDifference(one: Uint8Array, two: Uint8Array): number {
  for (let at = 0; at < one.length; at += 512) {
    if (Buffer.compare(one.subarray(at, at + 512), two.subarray(at, at + 512)) !== 0) return at;
  }
  return 0;
}
