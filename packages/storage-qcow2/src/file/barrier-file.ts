import { ImageError } from "../image-error.ts";
import type { BlockFile } from "./block-file.ts";

/**
 * Writes to a file and the barriers between them. A barrier with nothing written before it costs nothing.
 *
 * Once a barrier failed, the file takes no more writes and every later barrier fails too, until it is opened again: Linux
 * reports a lost write to one fdatasync(2) only and then calls the page clean, so that trying again would succeed
 * without the data being there. What is in the page cache can still be read.
 */
export class BarrierFile {
  readonly file: BlockFile;
  readonly #unsafe: boolean;
  /** True at first: a process that was killed may have left what it wrote in the page cache. */
  #written: boolean;
  #below: BarrierFile | undefined;
  #lost: unknown;

  /**
   * @param unsafe skips every sync: for an image that is thrown away when the host fails
   */
  constructor(file: BlockFile, unsafe = false) {
    this.file = file;
    this.#unsafe = unsafe;
    this.#written = !file.readOnly;
  }

  /** Orders another file's writes before every later barrier of this one. */
  orderAfter(below: BarrierFile): void {
    this.#below = below;
  }

  /** @throws {@link ImageError} with fault `host`, always once a barrier failed */
  write(offset: number, from: Uint8Array): void {
    this.expectNothingLost();
    this.#written = true;
    this.file.write(offset, from);
  }

  /** Gives the storage of a range inside the file back. False: the host cannot. */
  punch(offset: number, length: number): boolean {
    this.expectNothingLost();
    if (offset + length > this.file.size()) return false;
    this.#written = true;
    return this.file.punch?.(offset, length) === true;
  }

  truncate(size: number): void {
    this.expectNothingLost();
    this.#written = true;
    this.file.truncate(size);
  }

  /** Has the host keep storage for a range. False: it cannot. */
  allocate(offset: number, length: number): boolean {
    this.expectNothingLost();
    this.#written = true;
    return this.file.allocate?.(offset, length) === true;
  }

  /** What was written before is stable before what is written after. */
  barrier(): void {
    this.sync();
  }

  /** What was written is stable, but for an image opened unsafe. */
  sync(): void {
    this.#below?.sync();
    this.expectNothingLost();
    if (!this.#written || this.#unsafe) return;
    try {
      this.file.sync();
    } catch (error) {
      this.lose(error);
      throw error;
    }
    this.#written = false;
  }

  /** Nobody knows any more what is stable: nothing is written from now on. */
  lose(error: unknown): void {
    this.#lost ??= error;
  }

  /** @throws {@link ImageError} with fault `host` once a barrier failed, here or in a file ordered before this one */
  expectNothingLost(): void {
    this.#below?.expectNothingLost();
    if (this.#lost === undefined) return;
    throw new ImageError(
      this.file.path,
      "host",
      "what was written may be lost since the host failed to make it stable: nothing is written until the image is opened again",
      { cause: this.#lost },
    );
  }
}
