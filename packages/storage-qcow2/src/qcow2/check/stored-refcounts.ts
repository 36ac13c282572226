import type { BlockFile } from "../../file/block-file.ts";
import { type Qcow2Header, readOffset, writeOffset } from "../header.ts";

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
    return this.#bits >= 53 ? Number.MAX_SAFE_INTEGER : 2 ** this.#bits - 1;
  }

  get(cluster: number): number {
    if (!this.#load(Math.floor(cluster / this.perBlock))) return 0;
    const within = cluster % this.perBlock;
    const view = this.#view;
    switch (this.#bits) {
      case 8:
        return view.getUint8(within);
      case 16:
        return view.getUint16(within * 2);
      case 32:
        return view.getUint32(within * 4);
      case 64:
        return readOffset(view, within * 8);
      default:
        return (view.getUint8((within * this.#bits) >>> 3) >>> ((within * this.#bits) & 7)) & this.max;
    }
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

/** Sets one count in the bytes of a block. */
export function putRefcount(view: DataView, bits: number, index: number, value: number): void {
  switch (bits) {
    case 8:
      view.setUint8(index, value);
      return;
    case 16:
      view.setUint16(index * 2, value);
      return;
    case 32:
      view.setUint32(index * 4, value);
      return;
    case 64:
      writeOffset(view, index * 8, value);
      return;
    default: {
      const at = (index * bits) >>> 3;
      const shift = (index * bits) & 7;
      const mask = (2 ** bits - 1) << shift;
      view.setUint8(at, (view.getUint8(at) & ~mask) | (value << shift));
    }
  }
}
