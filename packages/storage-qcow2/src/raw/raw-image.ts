import {
  type DiskImage,
  type Extent,
  expectInside,
  expectWritable,
  SynchronousImage,
} from "../disk-image.ts";
import { BarrierFile } from "../file/barrier-file.ts";
import type { BlockFile } from "../file/block-file.ts";
import { ImageError } from "../image-error.ts";
import { keepStorage, type Preallocation, writeZeroes } from "../operations/preallocate.ts";

/** A file whose bytes are the disk's bytes. A file that ends inside a block reads as if zeroes followed. */
export class RawImage extends SynchronousImage {
  readonly format = "raw";
  readonly backing: DiskImage | undefined = undefined;
  readonly path: string;
  readonly readOnly: boolean;
  readonly #file: BlockFile;
  readonly #written: BarrierFile;
  #size: number;

  constructor(file: BlockFile) {
    super();
    this.path = file.path;
    this.readOnly = file.readOnly;
    this.#file = file;
    this.#written = new BarrierFile(file);
    this.#size = Math.ceil(file.size() / 512) * 512;
  }

  get size(): number {
    return this.#size;
  }

  readAt(offset: number, into: Uint8Array): void {
    this.#file.read(offset, into);
  }

  readLater(offset: number, into: Uint8Array): Promise<void> | undefined {
    return this.#file.readLater?.(offset, into);
  }

  writeAt(offset: number, from: Uint8Array): void {
    expectWritable(this);
    expectInside(this, offset, from.length);
    this.#written.write(offset, from);
  }

  writeZeroesAt(offset: number, length: number, mayUnmap: boolean): void {
    expectWritable(this);
    expectInside(this, offset, length);
    if (mayUnmap && this.#punch(offset, length)) return;
    writeZeroes(this.#written, offset, length);
  }

  /** Makes a hole where the host can. */
  discardAt(offset: number, length: number): void {
    expectWritable(this);
    expectInside(this, offset, length);
    this.#punch(offset, length);
  }

  /** What lies behind the file's end reads as zeroes as it is. */
  #punch(offset: number, length: number): boolean {
    const inside = Math.min(length, this.#file.size() - offset);
    return inside <= 0 || this.#written.punch(offset, inside);
  }

  resize(size: number): void {
    expectWritable(this);
    this.#written.truncate(size);
    this.#size = Math.ceil(size / 512) * 512;
  }

  /** Gives the disk storage from `offset` on. */
  preallocate(offset: number, mode: Preallocation): void {
    expectWritable(this);
    if (mode === "metadata") {
      throw new ImageError(this.path, "request", "preallocation: a raw image has no metadata");
    }
    if (mode === "falloc") keepStorage(this.#written, offset, this.#size - offset);
    if (mode === "full") writeZeroes(this.#written, offset, this.#size - offset);
  }

  flushNow(): void {
    if (!this.readOnly) this.#written.sync();
  }

  extentAt(offset: number, length: number): Extent {
    const within = Math.min(length, this.#size - offset);
    const extent = this.#file.extentAt?.(offset, within);
    return {
      length: extent?.length ?? within,
      kind: extent?.isHole === true ? "zero" : "data",
      fileOffset: offset,
    };
  }

  /** Length of the file. */
  fileSize(): number {
    return this.#file.size();
  }

  allocated(): number {
    return this.#file.allocated?.() ?? this.#file.size();
  }

  handOver(toWriter: boolean): void {
    this.flushNow();
    this.#file.handOver?.(toWriter);
  }

  takeBack(): void {
    this.#file.takeBack?.();
  }

  closeNow(): void {
    this.#file.close();
  }
}
