import type { BlockBackend } from "@northbridge/sdk";
import { ImageError } from "./image-error.ts";

/** Formats this package opens. */
export type ImageFormat = "raw" | "qcow2";

/** A run of an image whose bytes come from the same kind of place. */
export interface Extent {
  readonly length: number;
  /** `unallocated`: the bytes are the backing image's, or zeroes where there is none. */
  readonly kind: "data" | "zero" | "compressed" | "unallocated";
  /** Of `data`: has a place where the file has a hole, and reads as zeroes. */
  readonly isHole?: boolean;
  /** Where the bytes lie in the file, for `data`; of a `zero` extent, where it has clusters of its own. */
  readonly fileOffset: number | undefined;
}

/** An open disk image: a {@link BlockBackend} that also answers at once, for tools and for images on top of it. */
export interface DiskImage extends BlockBackend {
  readonly format: ImageFormat;
  readonly path: string;
  /** The file that has the data, where that is another one. */
  readonly dataPath?: string;
  readonly backing: DiskImage | undefined;
  /** Fills `into`; beyond the image's end come zeroes. */
  readAt(offset: number, into: Uint8Array): void;
  /** As {@link readAt}, while this thread does other things. `undefined`: not of this range. Nobody may write meanwhile. */
  readLater?(offset: number, into: Uint8Array): Promise<void> | undefined;
  writeAt(offset: number, from: Uint8Array): void;
  writeZeroesAt(offset: number, length: number, mayUnmap: boolean): void;
  discardAt(offset: number, length: number): void;
  flushNow(): void;
  /** The longest run from `offset`, at most `length`, of one kind. Does not look into the backing image. */
  extentAt(offset: number, length: number): Extent;
  /**
   * Stores what is in memory and makes ready for another opener of this process (`isHandedOver` of `openImage`), while this
   * one keeps its locks until it is closed.
   * @param toWriter the other one writes
   * @throws {@link ImageError}, where others use the image in a way that excludes that; all is then as it was
   */
  handOver(toWriter: boolean): void;
  /** There is no other opener after all. */
  takeBack(): void;
  closeNow(): void;
}

/** @throws {@link ImageError} when the range does not lie inside `[0, size)` */
export function expectInside(image: DiskImage, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || length < 0 || offset + length > image.size) {
    throw new ImageError(
      image.path,
      "refused",
      `expected a range within ${image.size} bytes, found ${length} bytes at ${offset}`,
    );
  }
}

export function expectWritable(image: DiskImage): void {
  if (image.readOnly) throw new ImageError(image.path, "refused", "the image is read-only");
}

/** The methods of `BlockBackend` by those that answer at once. */
export abstract class SynchronousImage implements DiskImage {
  abstract readonly format: ImageFormat;
  abstract readonly path: string;
  abstract readonly backing: DiskImage | undefined;
  abstract readonly size: number;
  abstract readonly readOnly: boolean;
  readonly blockSize = 512;

  abstract readAt(offset: number, into: Uint8Array): void;
  abstract writeAt(offset: number, from: Uint8Array): void;
  abstract writeZeroesAt(offset: number, length: number, mayUnmap: boolean): void;
  abstract discardAt(offset: number, length: number): void;
  abstract flushNow(): void;
  abstract extentAt(offset: number, length: number): Extent;
  abstract handOver(toWriter: boolean): void;
  abstract takeBack(): void;
  abstract closeNow(): void;

  // The bodies run at once; `async` turns what they throw into rejections.
  /* eslint-disable @typescript-eslint/require-await */
  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    expectInside(this, offset, totalLength(into));
    let at = offset;
    for (const part of into) {
      this.readAt(at, part);
      at += part.length;
    }
  }

  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    expectInside(this, offset, totalLength(from));
    this.writeAt(offset, from.length === 1 && from[0] !== undefined ? from[0] : gathered(from));
  }

  async flush(): Promise<void> {
    this.flushNow();
  }

  async discard(offset: number, length: number): Promise<void> {
    this.discardAt(offset, length);
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    this.writeZeroesAt(offset, length, mayUnmap);
  }

  async close(): Promise<void> {
    this.closeNow();
  }
  /* eslint-enable @typescript-eslint/require-await */
}

const totalLength = (parts: readonly Uint8Array[]): number => {
  let length = 0;
  for (const part of parts) length += part.length;
  return length;
};

function gathered(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(totalLength(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
