import type { BarrierFile } from "../file/barrier-file.ts";
import { ImageError } from "../image-error.ts";

/**
 * What a new disk has before anything is written to it: nothing; the place of each cluster; storage of the host for it;
 * storage that was written once.
 */
export type Preallocation = "off" | "metadata" | "falloc" | "full";

const ZEROES = new Uint8Array(1 << 20);

/** Has the host keep storage for a range of a file. @throws {@link ImageError} where it cannot */
export function keepStorage(file: BarrierFile, offset: number, length: number): void {
  if (length === 0 || file.allocate(offset, length)) return;
  throw new ImageError(file.file.path, "host", "the host cannot keep storage for a file (fallocate)");
}

export function writeZeroes(file: Pick<BarrierFile, "write">, offset: number, length: number): void {
  for (let done = 0; done < length; done += ZEROES.length) {
    file.write(offset + done, ZEROES.subarray(0, Math.min(ZEROES.length, length - done)));
  }
}
