import type { BarrierFile } from "../file/barrier-file.ts";
import { OFFSET_HI, OFFSET_LO } from "./spec.ts";

const SECTOR = 512;

/** A table of 64-bit big-endian pointers held whole in memory: the L1 table or the refcount table. */
export class PointerTable {
  readonly offset: number;
  readonly entries: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #dirtySectors = new Set<number>();

  constructor(offset: number, bytes: Uint8Array) {
    this.offset = offset;
    this.entries = Math.floor(bytes.length / 8);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  static load(file: BarrierFile, offset: number, entries: number): PointerTable {
    const bytes = new Uint8Array(entries * 8);
    file.file.read(offset, bytes);
    return new PointerTable(offset, bytes);
  }

  get isDirty(): boolean {
    return this.#dirtySectors.size > 0;
  }

  /** A copy of the bytes as they stand in the file. */
  encoded(): Uint8Array {
    return this.#bytes.slice();
  }

  /** Bits 9 to 55. Refcount table entries have no flags, so a set bit above makes their offset no safe integer's. */
  pointer(index: number): number {
    return (
      ((this.#view.getUint32(index * 8) & OFFSET_HI) >>> 0) * 2 ** 32 +
      ((this.#view.getUint32(index * 8 + 4) & OFFSET_LO) >>> 0)
    );
  }

  upper(index: number): number {
    return this.#view.getUint32(index * 8);
  }

  lower(index: number): number {
    return this.#view.getUint32(index * 8 + 4);
  }

  set(index: number, pointer: number, flagsHi: number): void {
    this.#view.setUint32(index * 8, (Math.floor(pointer / 2 ** 32) | flagsHi) >>> 0);
    this.#view.setUint32(index * 8 + 4, pointer >>> 0);
    this.#dirtySectors.add(Math.floor((index * 8) / SECTOR));
  }

  /** Writes the sectors that changed. */
  writeDirty(file: BarrierFile): void {
    for (const sector of this.#dirtySectors) {
      file.write(this.offset + sector * SECTOR, this.#bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR));
    }
    this.#dirtySectors.clear();
  }
}
