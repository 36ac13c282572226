import type { BarrierFile } from "../file/barrier-file.ts";
import { encodeHeader, extensionsEnd, type Qcow2Header, readOffset, writeHeaderFields } from "./header.ts";
import { Autoclear } from "./spec.ts";

const SECTOR = 512;

/**
 * Changes the header cluster so that a power failure leaves the old header or the new one, and a failed write the old
 * one; where even that cannot be had, nothing more is written to the file.
 */
export class HeaderWriter {
  readonly #file: BarrierFile;
  readonly #header: Qcow2Header;

  constructor(file: BarrierFile, header: Qcow2Header) {
    this.#file = file;
    this.#header = header;
  }

  /** Changes the header here and, stable, in the file. @param extent `fields`: neither extensions nor the name change */
  change(fields: Partial<Qcow2Header>, extent: "fields" | "all"): void {
    const before = { ...this.#header };
    const cluster = new Uint8Array(extent === "all" ? 2 ** this.#header.clusterBits : SECTOR);
    this.#file.file.read(0, cluster);
    Object.assign(this.#header, fields);
    try {
      if (extent === "all") this.#writeAll(cluster.slice());
      else {
        writeHeaderFields(
          { read: (_, into) => into.set(cluster), write: (at, from) => this.#file.write(at, from) },
          this.#header,
        );
      }
      this.#file.sync();
    } catch (error) {
      Object.assign(this.#header, before);
      this.#restore(cluster);
      throw error;
    }
  }

  /** A write that failed may have happened all the same. */
  #restore(cluster: Uint8Array): void {
    try {
      this.#file.write(0, cluster);
      this.#file.sync();
    } catch (error) {
      this.#file.lose(error);
    }
  }

  /**
   * What lies behind the first sector is written first: the name of a backing file goes where the old
   * one is not, and bitmaps are disowned while their extension changes.
   */
  #writeAll(before: Uint8Array): void {
    const header = this.#header;
    const clusterSize = before.length;
    const old = new DataView(before.buffer);
    const oldName = { at: readOffset(old, 8), end: readOffset(old, 8) + old.getUint32(16) };
    this.#placeName(oldName, before);
    const after = new Uint8Array(clusterSize);
    after.set(encodeHeader(header, this.#file.file.path));
    header.backingFileOffset = readOffset(new DataView(after.buffer), 8);
    const changed: number[] = [];
    for (let at = 0; at < clusterSize; at += SECTOR) {
      if (before.subarray(at, at + SECTOR).some((byte, index) => byte !== after[at + index]))
        changed.push(at);
    }
    if (changed.some((at) => at > 0)) {
      if (header.version === 3 && (old.getBigUint64(88) & Autoclear.BITMAPS) !== 0n && changed.length > 1) {
        old.setBigUint64(88, old.getBigUint64(88) & ~Autoclear.BITMAPS);
        this.#file.write(0, before.subarray(0, SECTOR));
        this.#file.barrier();
      }
      for (const at of changed) if (at > 0) this.#file.write(at, after.subarray(at, at + SECTOR));
      this.#file.barrier();
    }
    this.#file.write(0, after.subarray(0, SECTOR));
  }

  /** Keeps a name where it is, and puts another one beside it where there is room. */
  #placeName(old: { readonly at: number; readonly end: number }, before: Uint8Array): void {
    const header = this.#header;
    if (header.backingFile === undefined) {
      header.backingFileOffset = 0;
      return;
    }
    const name = new TextEncoder().encode(header.backingFile);
    const end = extensionsEnd(header);
    const stays =
      old.at >= end &&
      old.end - old.at === name.length &&
      name.every((byte, index) => byte === before[old.at + index]);
    header.backingFileOffset = stays ? old.at : end;
    if (stays || old.at === 0) return;
    const overlaps = end < old.end && old.at < end + name.length;
    const behind = Math.max(end, old.end);
    if (overlaps && behind + name.length <= before.length) header.backingFileOffset = behind;
  }
}
