import type { BlockFile } from "../../file/block-file.ts";
import type { Qcow2Header } from "../header.ts";
import { maxRefcount, putRefcount, readRefcount } from "../refcount-entry.ts";

/**
 * Refcounts as they stand in the file, read and written without caches and without trust. Made for a check: the image
 * itself uses {@link Refcounts}.
 */
export class StoredRefcounts {
  /** Offsets of the refcount blocks, 0 where there is none or where it cannot be one. */
  readonly blocks: number[] = [];
  readonly perBlock: number;
  readonly #file: BlockFile;
  readonly #bits: number;
  readonly #clusterSize: number;
  #loaded = -1;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #dirty = false;

  constructor(file: BlockFile, header: Qcow2Header) {
    this.#file = file;
    this.#bits = 2 ** header.refcountOrder;
    this.#clusterSize = 2 ** header.clusterBits;
    this.perBlock = (this.#clusterSize * 8) / this.#bits;
    this.#bytes = new Uint8Array(this.#clusterSize);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** The greatest count that the width holds and a number can say. */
  get max(): number {
    return maxRefcount(this.#bits);
  }

  get(cluster: number): number {
    if (!this.#load(Math.floor(cluster / this.perBlock))) return 0;
    return readRefcount(this.#view, this.#bits, cluster % this.perBlock);
  }

  /** False where no block counts this cluster. */
  set(cluster: number, value: number): boolean {
    if (!this.#load(Math.floor(cluster / this.perBlock))) return false;
    putRefcount(this.#view, this.#bits, cluster % this.perBlock, value);
    this.#dirty = true;
    return true;
  }

  /** Writes the block that {@link set} changed last; the others are written as the next one is loaded. */
  writeBack(): void {
    if (this.#dirty) this.#file.write(this.blocks[this.#loaded] ?? 0, this.#bytes);
    this.#dirty = false;
  }

  /** True where the block lies in a hole of the file or counts nothing. */
  isEmptyBlock(block: number): boolean {
    const offset = this.blocks[block] ?? 0;
    if (offset === 0) return true;
    const extent = this.#file.extentAt?.(offset, this.#clusterSize);
    return extent?.isHole === true && extent.length >= this.#clusterSize;
  }

  #load(block: number): boolean {
    if (block === this.#loaded) return true;
    const offset = this.blocks[block] ?? 0;
    if (offset === 0) return false;
    this.writeBack();
    this.#file.read(offset, this.#bytes);
    this.#loaded = block;
    return true;
  }
}
