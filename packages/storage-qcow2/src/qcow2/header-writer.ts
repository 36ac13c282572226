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
   * Where more than the first sector changes, the new extensions and name are first written behind all that is in use, and
   * the first sector switched to them; then they come to their place in the same way. At every moment the first sector
   * names extensions that are whole.
   */
  #writeAll(before: Uint8Array): void {
    const header = this.#header;
    const { path } = this.#file.file;
    const clusterSize = before.length;
    const name = nameRange(before);
    header.backingFileOffset = 0;
    const final = padded(encodeHeader(header, path), clusterSize);
    if (!differsBehind(before, final)) {
      this.#file.write(0, final.subarray(0, SECTOR));
    } else {
      const inUse = Math.max(name.end, usedBytes(before), usedBytes(final));
      const from = Math.ceil(inUse / SECTOR) * SECTOR;
      const nameBytes = new TextEncoder().encode(header.backingFile ?? "").length;
      if (header.headerLength + 8 > SECTOR || extensionsEnd(header, from) + nameBytes > clusterSize) {
        this.#writeInPlace(before, name);
        return;
      }
      const moved = padded(encodeHeader(header, path, from), clusterSize);
      this.#switchTo(before, moved, from, clusterSize);
      this.#switchTo(before, final, SECTOR, from);
      this.#writeSectors(before, final, from, clusterSize);
    }
    header.backingFileOffset = nameRange(final).at;
  }

  /** Writes a part that the first sector does not name yet, then that sector. @param before what the file has, kept true */
  #switchTo(before: Uint8Array, after: Uint8Array, start: number, end: number): void {
    this.#writeSectors(before, after, start, end);
    this.#file.barrier();
    this.#writeSectors(before, after, 0, SECTOR);
    this.#file.barrier();
  }

  #writeSectors(before: Uint8Array, after: Uint8Array, start: number, end: number): void {
    for (let at = start; at < end; at += SECTOR) {
      const sector = after.subarray(at, at + SECTOR);
      if (Buffer.compare(sector, before.subarray(at, at + SECTOR)) === 0) continue;
      this.#file.write(at, sector);
      before.set(sector, at);
    }
  }

  /**
   * In a cluster too small for two sets of extensions: the name of a backing file goes where the old one is not, and bitmaps
   * are disowned while their extension changes. A power failure can leave an extension that is not whole.
   */
  #writeInPlace(before: Uint8Array, oldName: { readonly at: number; readonly end: number }): void {
    const header = this.#header;
    this.#placeName(oldName, before);
    const after = padded(encodeHeader(header, this.#file.file.path), before.length);
    header.backingFileOffset = nameRange(after).at;
    const old = new DataView(before.buffer);
    if (header.version === 3 && (old.getBigUint64(88) & Autoclear.BITMAPS) !== 0n) {
      old.setBigUint64(88, old.getBigUint64(88) & ~Autoclear.BITMAPS);
      this.#file.write(0, before.subarray(0, SECTOR));
      this.#file.barrier();
    }
    this.#switchTo(before, after, SECTOR, after.length);
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

function nameRange(cluster: Uint8Array): { readonly at: number; readonly end: number } {
  const view = new DataView(cluster.buffer, cluster.byteOffset);
  return { at: readOffset(view, 8), end: readOffset(view, 8) + view.getUint32(16) };
}

function padded(bytes: Uint8Array, length: number): Uint8Array {
  const whole = new Uint8Array(length);
  whole.set(bytes);
  return whole;
}

/** Everything up to the last byte that is not zero, and an end mark behind it. */
const usedBytes = (cluster: Uint8Array): number => cluster.findLastIndex((byte) => byte !== 0) + 1 + 8;

const differsBehind = (before: Uint8Array, after: Uint8Array): boolean =>
  Buffer.compare(before.subarray(SECTOR), after.subarray(SECTOR)) !== 0;
