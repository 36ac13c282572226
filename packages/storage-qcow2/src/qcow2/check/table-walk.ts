import type { BlockFile } from "../../file/block-file.ts";
import { ImageError } from "../../image-error.ts";
import { bitmapsExtension, readBitmapDirectory } from "../bitmap-directory.ts";
import { hasDataFile, hasExtendedL2, type Qcow2Header, readOffset } from "../header.ts";
import { readSnapshotTable, type SnapshotEntry, snapshotTableBytes } from "../snapshot-table.ts";
import {
  COMPRESSED_HI,
  COPIED_HI,
  Extension,
  L2_RESERVED_HI,
  MAX_L1_BYTES,
  OFFSET_HI,
  OFFSET_LO,
  ZERO_LO,
} from "../spec.ts";
import { type CheckReport, note } from "./check-report.ts";
import { RefcountTally } from "./refcount-tally.ts";
import type { StoredRefcounts } from "./stored-refcounts.ts";

const OFLAG_MASK_LO = 0x1fe;
/** A file that ends inside a sector counts to the sector's end, as QEMU's does. */
const SECTOR = 512;
const L1_RESERVED_HI = 0x7f000000;
const L1_RESERVED_LO = 0x1ff;

/**
 * A walk over every table of an image that counts the references to each host cluster and finds pointers that cannot
 * be. Those stay as they are, as QEMU leaves them, for one bit put right may be all that they need. With `repair`, entries
 * that have no data lose what is wrong with them.
 */
export class TableWalk {
  readonly tally: RefcountTally;
  /** The refcount table or a block is no good: only new ones help. */
  needsRebuild = false;
  /** False: some table could not be read, and what it references was not counted. Nothing may be freed then. */
  isComplete = true;
  /** Some entry cannot be followed, or means what nobody knows: what nothing else names may be its data. */
  keepsEntries = false;
  /** References that the refcount table and its blocks made, one by one: a rebuild takes them back. */
  readonly #refcountClusters: number[] = [];
  #sharesInPlace = false;
  /** L2 tables by offset: how often they are named, and by what first. */
  readonly #l2Tables = new Map<
    number,
    { times: number; readonly l1Index: number; readonly isActive: boolean }
  >();
  /** Where L2 entries are that have a place that cannot be, and no data. */
  readonly #misplacedZeroes: number[] = [];
  readonly #file: BlockFile;
  readonly #header: Qcow2Header;
  readonly #report: CheckReport;
  readonly #repair: boolean;
  readonly #clusterSize: number;
  readonly #fileBytes: number;
  readonly #entryBytes: number;

  constructor(file: BlockFile, header: Qcow2Header, report: CheckReport, repair: boolean) {
    this.tally = new RefcountTally(file.path);
    this.#file = file;
    this.#header = header;
    this.#report = report;
    this.#repair = repair;
    this.#clusterSize = 2 ** header.clusterBits;
    this.#fileBytes = Math.ceil(file.size() / SECTOR) * SECTOR;
    this.#entryBytes = hasExtendedL2(header) ? 16 : 8;
  }

  /** Host clusters that the file has. */
  get fileClusters(): number {
    return Math.ceil(this.#fileBytes / this.#clusterSize);
  }

  walk(stored: StoredRefcounts): void {
    const header = this.#header;
    this.#reference(0, this.#clusterSize, "the header");
    this.#walkL1(header.l1TableOffset, header.l1Size, true, "active L1 table");
    this.#walkSnapshots();
    for (const [table, { l1Index, isActive, times }] of this.#l2Tables) {
      if (!this.#isHole(table)) this.#walkL2(table, l1Index, isActive, times);
    }
    this.#walkBitmaps();
    const crypto = header.extensions.find(({ type }) => type === Extension.CRYPTO)?.data;
    if (crypto?.length === 16) {
      const view = new DataView(crypto.buffer, crypto.byteOffset, 16);
      this.#reference(readOffset(view, 0), readOffset(view, 8), "the LUKS header");
    }
    this.#walkRefcountTable(stored);
    this.#repairZeroes();
  }

  /** Takes back what the refcount table and its blocks referenced. */
  forgetRefcountTable(): void {
    for (const cluster of this.#refcountClusters) this.tally.remove(cluster);
  }

  /** A write to one block would go to a cluster that is another's too, and was left so. */
  get sharesInPlace(): boolean {
    return this.#sharesInPlace;
  }

  /** Visits the L1 entries and L2 entries of the active table that have a cluster of their own. */
  checkCopied(refcount: (cluster: number) => number, repair: boolean): void {
    const { l1TableOffset, l1Size } = this.#header;
    const l1 = this.#read(l1TableOffset, l1Size * 8);
    const seen = new Set<number>();
    for (let index = 0; index < l1Size; index += 1) {
      const table = offsetOf(l1, index * 8);
      if (table === 0 || !this.#isCluster(table)) continue;
      this.#fixCopied(l1, index * 8, l1TableOffset, table, refcount, repair, `L1 entry ${index}`);
      if (seen.has(table) || this.#isHole(table)) continue;
      seen.add(table);
      const l2 = this.#read(table, this.#clusterSize);
      for (let at = 0; at < this.#clusterSize; at += this.#entryBytes) {
        const hi = l2.getUint32(at);
        if ((hi & COMPRESSED_HI) !== 0) continue;
        const offset = offsetOf(l2, at);
        if (offset === 0 && !(hasDataFile(this.#header) && (hi & COPIED_HI) !== 0)) continue;
        if (offset % this.#clusterSize !== 0) continue;
        const what = `L2 entry ${at / this.#entryBytes} of the table at ${table}`;
        const count = hasDataFile(this.#header) ? (): number => 1 : refcount;
        this.#fixCopied(l2, at, table, offset, count, repair, what);
      }
    }
  }

  #fixCopied(
    table: DataView,
    at: number,
    tableOffset: number,
    offset: number,
    refcount: (cluster: number) => number,
    repair: boolean,
    what: string,
  ): void {
    const count = refcount(Math.floor(offset / this.#clusterSize));
    const hi = table.getUint32(at);
    if ((count === 1) === ((hi & COPIED_HI) !== 0)) return;
    this.#corruption(
      `${what}: refcount ${count}, but the copied flag is ${(hi & COPIED_HI) !== 0 ? "set" : "clear"}`,
    );
    if (!repair) {
      if (count > 1) this.#sharesInPlace = true;
      return;
    }
    table.setUint32(at, (hi ^ COPIED_HI) >>> 0);
    this.#file.write(tableOffset + at, new Uint8Array(table.buffer, table.byteOffset + at, 8));
    this.#report.corruptionsFixed += 1;
  }

  /**
   * Counts an L1 table and the L2 tables it names. Tables are walked later, once each however often they are named: the
   * work is bounded by what the file holds, not by what a damaged header multiplies it to.
   * @param times how many snapshots share this very L1 table
   */
  #walkL1(offset: number, entries: number, isActive: boolean, what: string, times = 1): void {
    if (entries === 0) return;
    const isTooLarge = entries * 8 > MAX_L1_BYTES;
    if (isTooLarge) this.#corruption(`${what}: ${entries} entries are too many`);
    const isOverOther = !isActive && this.tally.get(Math.floor(offset / this.#clusterSize)) > 0;
    if (isOverOther) this.#corruption(`${what} lies over another table`);
    if (isTooLarge || isOverOther || !this.#reference(offset, entries * 8, what, times)) {
      this.isComplete = false;
      return;
    }
    if (this.#isHole(offset, entries * 8)) return;
    const l1 = this.#read(offset, entries * 8);
    for (let index = 0; index < entries; index += 1) {
      const table = offsetOf(l1, index * 8);
      if (l1.getUint32(index * 8) === 0 && l1.getUint32(index * 8 + 4) === 0) continue;
      const name = `${what}, entry ${index}`;
      const hasReserved =
        (l1.getUint32(index * 8) & L1_RESERVED_HI) !== 0 ||
        (l1.getUint32(index * 8 + 4) & L1_RESERVED_LO) !== 0;
      if (hasReserved) this.#kept(`${name}: reserved bits are set`);
      else if (table === 0) this.#kept(`${name}: flags are set, but it names no table`);
      if (table === 0) continue;
      if (table % this.#clusterSize !== 0) {
        this.#kept(`${name}: the L2 table at ${table} is not a cluster`);
      } else if (this.#reference(table, this.#clusterSize, name, times)) {
        const known = this.#l2Tables.get(table);
        if (known !== undefined) known.times += times;
        else this.#l2Tables.set(table, { times, l1Index: index, isActive });
      }
    }
  }

  #walkL2(table: number, l1Index: number, isActive: boolean, times: number): void {
    const report = this.#report;
    const l2 = this.#read(table, this.#clusterSize);
    let next = 0;
    const entries = this.#clusterSize / this.#entryBytes;
    for (let index = 0; index < entries; index += 1) {
      const at = index * this.#entryBytes;
      const hi = l2.getUint32(at);
      const lo = l2.getUint32(at + 4);
      const bitmaps = this.#entryBytes === 16 && (l2.getUint32(at + 8) !== 0 || l2.getUint32(at + 12) !== 0);
      if (hi === 0 && lo === 0 && !bitmaps) continue;
      const guest = l1Index * entries + index;
      const what = `guest cluster ${guest}`;
      if ((hi & COMPRESSED_HI) !== 0) {
        if (this.#walkCompressed(hi, lo, what, times) && isActive) {
          report.allocatedClusters += 1;
          report.compressedClusters += 1;
          report.fragmentedClusters += 1;
        }
        continue;
      }
      const offset = offsetOf(l2, at);
      const isCluster = offset % this.#clusterSize === 0;
      if (!isCluster && !this.#hasData(l2, at)) {
        this.#corruption(`${what}: its place at ${offset} is not a cluster`);
        this.#misplacedZeroes.push(table + at);
        continue;
      }
      const fault = this.#faultOf(l2, at, offset, guest);
      if (fault !== undefined) this.#kept(`${what}: ${fault}`);
      if (!isCluster || (offset === 0 && !(hasDataFile(this.#header) && (hi & COPIED_HI) !== 0))) continue;
      if (!hasDataFile(this.#header) && !this.#reference(offset, this.#clusterSize, what, times)) continue;
      if (!isActive) continue;
      report.allocatedClusters += 1;
      if (next !== 0 && offset !== next) report.fragmentedClusters += 1;
      next = offset + this.#clusterSize;
    }
  }

  /** False: a cluster that reads as zeroes wherever it lies. */
  #hasData(l2: DataView, at: number): boolean {
    if (this.#entryBytes === 16) return l2.getUint32(at + 12) !== 0;
    return this.#header.version === 2 || (l2.getUint32(at + 4) & ZERO_LO) === 0;
  }

  #faultOf(l2: DataView, at: number, offset: number, guest: number): string | undefined {
    const hi = l2.getUint32(at);
    const lo = l2.getUint32(at + 4);
    if (offset % this.#clusterSize !== 0) return `its data at ${offset} are not a cluster`;
    const reserved = this.#entryBytes === 16 ? OFLAG_MASK_LO | ZERO_LO : OFLAG_MASK_LO;
    if ((hi & L2_RESERVED_HI) !== 0 || (lo & reserved) !== 0) {
      return "reserved bits of its L2 entry are set";
    }
    if (this.#header.version === 2 && (lo & ZERO_LO) !== 0) return "a zero cluster in a version 2 image";
    if (this.#entryBytes === 16) {
      const zeroes = l2.getUint32(at + 8);
      const allocated = l2.getUint32(at + 12);
      if ((zeroes & allocated) !== 0) return "subclusters that are both allocated and zero";
      if (offset === 0 && allocated !== 0 && !hasDataFile(this.#header))
        return "subclusters without a cluster";
    }
    if (hasDataFile(this.#header) && (hi & COPIED_HI) !== 0 && offset !== guest * this.#clusterSize) {
      return `its data at ${offset} of the data file, not at its own offset`;
    }
    return undefined;
  }

  /** False: the entry cannot be. */
  #walkCompressed(hi: number, lo: number, what: string, times: number): boolean {
    if ((hi & COPIED_HI) !== 0) {
      this.#kept(`${what}: a compressed cluster with the copied flag`);
      return false;
    }
    if (hasDataFile(this.#header)) {
      this.#kept(`${what}: a compressed cluster in an image with a data file`);
      return false;
    }
    const shift = 62 - (this.#header.clusterBits - 8) - 32;
    const offset = (hi & (2 ** shift - 1)) * 2 ** 32 + lo;
    const sectors = ((hi & 0x3fffffff) >>> shift) + 1;
    return this.#reference(offset, sectors * 512 - (offset % 512), what, times);
  }

  /** Takes the places of {@link #misplacedZeroes} away, where the tables that they are in are tables beyond doubt. */
  #repairZeroes(): void {
    if (!this.#repair || this.keepsEntries || !this.isComplete) return;
    const entry = new Uint8Array(this.#entryBytes);
    if (this.#entryBytes === 16) entry.fill(0xff, 8, 12);
    else entry[7] = ZERO_LO;
    for (const at of this.#misplacedZeroes) {
      this.#file.write(at, entry);
      this.#report.corruptionsFixed += 1;
    }
  }

  #walkSnapshots(): void {
    if (this.#header.snapshotCount === 0) return;
    try {
      const entries = readSnapshotTable(this.#file, this.#header);
      this.#reference(this.#header.snapshotsOffset, snapshotTableBytes(entries), "the snapshot table");
      const tables = new Map<string, { readonly entry: SnapshotEntry; times: number }>();
      for (const entry of entries) {
        const known = tables.get(`${entry.l1TableOffset} ${entry.l1Size}`);
        if (known !== undefined) known.times += 1;
        else tables.set(`${entry.l1TableOffset} ${entry.l1Size}`, { entry, times: 1 });
      }
      for (const { entry, times } of tables.values()) {
        const { id, l1TableOffset, l1Size } = entry;
        if (l1TableOffset % this.#clusterSize !== 0) {
          this.#corruption(`snapshot ${id}: its L1 table at ${l1TableOffset} is not a cluster`);
          this.isComplete = false;
        } else this.#walkL1(l1TableOffset, l1Size, false, `L1 table of snapshot ${id}`, times);
      }
    } catch (error) {
      this.#unreadable(error);
    }
  }

  #walkBitmaps(): void {
    try {
      const extension = bitmapsExtension(this.#header, this.#file.path);
      if (extension === undefined) return;
      this.#reference(extension.directoryOffset, extension.directorySize, "the bitmap directory");
      for (const { name, tableOffset, tableSize } of readBitmapDirectory(
        this.#file,
        this.#header,
        extension,
      )) {
        if (!this.#reference(tableOffset, tableSize * 8, `the table of bitmap '${name}'`)) {
          this.isComplete = false;
          continue;
        }
        if (this.#isHole(tableOffset, tableSize * 8)) continue;
        const table = this.#read(tableOffset, tableSize * 8);
        for (let index = 0; index < tableSize; index += 1) {
          const offset = offsetOf(table, index * 8);
          const reserved =
            (table.getUint32(index * 8) & 0xff000000) !== 0 || (table.getUint32(index * 8 + 4) & 0x1fe) !== 0;
          if (reserved || (offset !== 0 && (table.getUint32(index * 8 + 4) & 1) !== 0)) {
            this.#kept(`bitmap '${name}': reserved bits are set in entry ${index} of its table`);
          } else if (offset !== 0)
            this.#reference(offset, this.#clusterSize, `bitmap '${name}', cluster ${index}`);
        }
      }
    } catch (error) {
      this.#unreadable(error);
    }
  }

  #walkRefcountTable(stored: StoredRefcounts): void {
    const { refcountTableOffset, refcountTableClusters } = this.#header;
    const bytes = refcountTableClusters * this.#clusterSize;
    if (!this.#reference(refcountTableOffset, bytes, "the refcount table")) this.needsRebuild = true;
    else {
      for (let index = 0; index < refcountTableClusters; index += 1) {
        this.#refcountClusters.push(refcountTableOffset / this.#clusterSize + index);
      }
    }
    const table = this.#read(refcountTableOffset, bytes);
    for (let index = 0; index * 8 < bytes; index += 1) {
      stored.blocks.push(0);
      const offset = readOffset(table, index * 8);
      if (offset === 0) continue;
      const what = `refcount block ${index}`;
      const isCluster = offset % this.#clusterSize === 0 && Number.isSafeInteger(offset);
      if (!isCluster || offset >= this.#fileBytes) {
        this.#corruption(
          `${what} lies at ${offset}, ${isCluster ? "outside of the file" : "which is not a cluster"}`,
        );
        this.needsRebuild = true;
        continue;
      }
      if (!this.#reference(offset, this.#clusterSize, what)) {
        this.needsRebuild = true;
        continue;
      }
      this.#refcountClusters.push(offset / this.#clusterSize);
      if (this.tally.get(offset / this.#clusterSize) !== 1) {
        this.#corruption(`${what} shares its cluster with something else`);
        this.needsRebuild = true;
      } else stored.blocks[index] = offset;
    }
  }

  /**
   * Counts a use of a range. False, and a corruption, where it lies outside of the file: by a cluster or more, for the
   * last one need not be whole.
   */
  #reference(offset: number, bytes: number, what: string, times = 1): boolean {
    if (bytes === 0) return true;
    if (!Number.isSafeInteger(offset + bytes) || offset + bytes >= this.#fileBytes + this.#clusterSize) {
      this.#kept(`${what}: ${bytes} bytes at ${offset} lie outside of the file`);
      return false;
    }
    const last = Math.floor((offset + bytes - 1) / this.#clusterSize);
    for (let cluster = Math.floor(offset / this.#clusterSize); cluster <= last; cluster += 1)
      this.tally.add(cluster, times);
    return true;
  }

  #isCluster(offset: number): boolean {
    return offset % this.#clusterSize === 0 && offset < this.#fileBytes;
  }

  /** A table in a hole of the file has no entries: an image with a huge sparse file is not read through. */
  #isHole(offset: number, bytes: number = this.#clusterSize): boolean {
    if (bytes === 0) return true;
    const extent = this.#file.extentAt?.(offset, bytes);
    return extent?.isHole === true && extent.length >= bytes;
  }

  #read(offset: number, bytes: number): DataView {
    const buffer = new Uint8Array(bytes);
    this.#file.read(offset, buffer);
    return new DataView(buffer.buffer);
  }

  #corruption(message: string): void {
    this.#report.corruptions += 1;
    note(this.#report, `ERROR ${message}`);
  }

  /** A corruption that repair leaves. */
  #kept(message: string): void {
    this.#corruption(message);
    this.keepsEntries = true;
  }

  #unreadable(error: unknown): void {
    if (!(error instanceof ImageError) || error.fault === "host") throw error;
    this.isComplete = false;
    this.#corruption(error.message);
  }
}

/** Bits 9 to 55 of an entry. */
const offsetOf = (view: DataView, at: number): number =>
  (view.getUint32(at) & OFFSET_HI) * 2 ** 32 + ((view.getUint32(at + 4) & OFFSET_LO) >>> 0);
