import type { BlockFile } from "../file/block-file.ts";

/** Files written since their last barrier, so that a barrier with nothing before it costs nothing. */
export class BarrierFile {
  readonly file: BlockFile;
  readonly #unsafe: boolean;
  #written = false;
  #below: BarrierFile | undefined;

  /**
   * @param unsafe skips every sync: for an image that is thrown away when the host fails
   * @param below a file that must be stable before this one
   */
  constructor(file: BlockFile, unsafe: boolean, below?: BarrierFile) {
    this.file = file;
    this.#unsafe = unsafe;
    this.#below = below;
  }

  /** Orders another file's writes before every later barrier of this one. */
  orderAfter(below: BarrierFile): void {
    this.#below = below;
  }

  write(offset: number, from: Uint8Array): void {
    this.#written = true;
    this.file.write(offset, from);
  }

  /** Gives the storage of a range inside the file back. False: the host cannot. */
  punch(offset: number, length: number): boolean {
    if (offset + length > this.file.size() || this.file.punch?.(offset, length) !== true) return false;
    this.#written = true;
    return true;
  }

  truncate(size: number): void {
    this.#written = true;
    this.file.truncate(size);
  }

  /** What was written before is stable before what is written after. */
  barrier(): void {
    this.sync();
  }

  /** What was written is stable, but for an image opened unsafe. */
  sync(): void {
    this.#below?.sync();
    if (!this.#written || this.#unsafe) return;
    this.file.sync();
    this.#written = false;
  }
}
