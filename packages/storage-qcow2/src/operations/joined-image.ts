import { type DiskImage, type Extent, expectInside, SynchronousImage } from "../disk-image.ts";
import { ImageError } from "../image-error.ts";
import { chainExtentAt } from "./chain-extents.ts";

/** Several disks one behind the other, to be read as one; who opened them closes them. */
export class JoinedImage extends SynchronousImage {
  readonly format = "raw";
  readonly backing: DiskImage | undefined = undefined;
  readonly path: string;
  readonly readOnly = true;
  readonly size: number;
  readonly #parts: readonly { readonly image: DiskImage; readonly start: number }[];

  constructor(images: readonly DiskImage[]) {
    super();
    let start = 0;
    this.#parts = images.map((image) => {
      const part = { image, start };
      start += image.size;
      return part;
    });
    this.size = start;
    this.path = images.map(({ path }) => path).join(" + ");
  }

  readAt(offset: number, into: Uint8Array): void {
    let done = 0;
    for (const { image, start } of this.#parts) {
      const at = offset + done;
      if (at >= start + image.size) continue;
      const part = into.subarray(done, done + start + image.size - at);
      image.readAt(at - start, part);
      done += part.length;
      if (done === into.length) return;
    }
    into.fill(0, done);
  }

  extentAt(offset: number, length: number): Extent {
    expectInside(this, offset, 0);
    const found = this.#parts.find(({ image, start }) => offset < start + image.size);
    if (found === undefined) return { length, kind: "zero", fileOffset: undefined };
    const { image, start } = found;
    const extent = chainExtentAt(image, offset - start, Math.min(length, start + image.size - offset));
    const kind = extent.isData && !extent.isZero ? "data" : "zero";
    return { length: extent.length, kind, fileOffset: undefined };
  }

  writeAt(): never {
    throw new ImageError(this.path, "request", "the image is read-only");
  }

  writeZeroesAt(): never {
    return this.writeAt();
  }

  discardAt(): never {
    return this.writeAt();
  }

  flushNow(): void {
    // Nothing is ever written.
  }

  handOver(): void {
    // Its images belong to who opened them.
  }

  takeBack(): void {
    // As above.
  }

  closeNow(): void {
    // As above.
  }
}
