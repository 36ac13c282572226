import { ImageError } from "../image-error.ts";
import { RefcountTally } from "./check/refcount-tally.ts";
import { l1EntriesFor, writeOffset } from "./header.ts";
import type { Qcow2Metadata } from "./metadata.ts";
import {
  encodeSnapshotTable,
  findSnapshot,
  hasPossibleL1,
  readSnapshotTable,
  type SnapshotEntry,
  snapshotTableBytes,
} from "./snapshot-table.ts";
import { MAX_SNAPSHOT_TABLE_BYTES, MAX_SNAPSHOTS } from "./spec.ts";
import { eachReference, expectTree, l2TablesOf, updateCopiedFlags } from "./tree.ts";

/** When a snapshot was taken. */
export interface SnapshotTime {
  readonly dateSec: number;
  readonly dateNsec: number;
}

/**
 * Internal snapshots (docs/interop/qcow2: Snapshots). Each change runs between the setting and the clearing of the
 * dirty bit, and takes effect by one write of the header's first sector.
 */
export class Snapshots {
  readonly #meta: Qcow2Metadata;

  constructor(meta: Qcow2Metadata) {
    this.#meta = meta;
  }

  list(): SnapshotEntry[] {
    return readSnapshotTable(this.#meta.file.file, this.#meta.header);
  }

  /** Keeps the disk as it is now under a name. */
  create(name: string, time: SnapshotTime): SnapshotEntry {
    const meta = this.#meta;
    this.#expectNoDataFile();
    const entries = this.list();
    const highest = entries.reduce((most, { id }) => Math.max(most, Number.parseInt(id, 10) || 0), 0);
    const entry: SnapshotEntry = {
      l1TableOffset: 0,
      l1Size: meta.l1.entries,
      id: String(highest + 1),
      name,
      ...time,
      vmClockNsec: 0n,
      vmStateSize: 0,
      diskSize: meta.header.size,
      icount: 0n,
      laterData: new Uint8Array(0),
    };
    if (
      entries.length >= MAX_SNAPSHOTS ||
      snapshotTableBytes([...entries, entry]) > MAX_SNAPSHOT_TABLE_BYTES
    ) {
      throw new ImageError(meta.path, "request", "the image has as many snapshots as the format allows");
    }
    meta.settle();
    const tables = this.#activeTables();
    const added = this.#referencesThatFit(tables);
    meta.beginUnsafe();
    entry.l1TableOffset = meta.writeNewTable(l1Bytes(tables));
    this.#raise(added);
    updateCopiedFlags(meta);
    meta.flush();
    this.#switchTable([...entries, entry]);
    meta.endUnsafe();
    return entry;
  }

  /** Gives up a snapshot. Of one whose L1 table cannot be read only the entry goes; a check finds what it leaks. */
  delete(idOrName: string): void {
    const meta = this.#meta;
    const entries = this.list();
    const entry = findSnapshot(entries, idOrName, meta.path);
    meta.settle();
    const isPossible = hasPossibleL1(entry, meta.header);
    const tables = isPossible ? l2TablesOf(meta, entry.l1TableOffset, entry.l1Size) : [];
    expectTree(meta, tables);
    meta.beginUnsafe();
    this.#switchTable(entries.filter((each) => each !== entry));
    this.#lower(tables);
    const clusters = isPossible ? Math.ceil((entry.l1Size * 8) / meta.clusterSize) : 0;
    if (clusters > 0) meta.refcounts.release(entry.l1TableOffset, clusters);
    meta.settle();
    updateCopiedFlags(meta);
    meta.endUnsafe();
  }

  /** Makes the disk what it was when the snapshot was taken, its size too; what it is now is lost. */
  apply(idOrName: string): void {
    const meta = this.#meta;
    this.#expectNoDataFile();
    const entry = findSnapshot(this.list(), idOrName, meta.path);
    if (!hasPossibleL1(entry, meta.header)) meta.corrupt(`snapshot '${idOrName}' has an impossible L1 table`);
    meta.settle();
    const size = entry.diskSize ?? meta.header.size;
    const old = this.#activeTables();
    const tables = l2TablesOf(meta, entry.l1TableOffset, entry.l1Size);
    const added = this.#referencesThatFit(tables);
    meta.beginUnsafe();
    this.#raise(added);
    while (tables.length < l1EntriesFor(meta.header, size)) tables.push(0);
    meta.switchL1(meta.writeNewTable(l1Bytes(tables)), tables.length, size);
    for (const table of tables) if (table !== 0) meta.noteMetadata(table / meta.clusterSize);
    this.#lower(old);
    meta.settle();
    updateCopiedFlags(meta);
    meta.endUnsafe();
  }

  #activeTables(): number[] {
    const { l1 } = this.#meta;
    return Array.from({ length: l1.entries }, (_, index) => this.#meta.l2TableOffset(index));
  }

  /** What one more reference to each cluster of a tree comes to. @throws where a refcount is too narrow for it */
  #referencesThatFit(tables: readonly number[]): RefcountTally {
    const meta = this.#meta;
    const added = new RefcountTally(meta.path);
    expectTree(meta, tables);
    eachReference(meta, tables, (cluster) => {
      if (meta.refcounts.get(cluster) + added.add(cluster) > meta.refcounts.max) {
        throw new ImageError(
          meta.path,
          "request",
          `a cluster would be referenced more than ${meta.refcounts.max} times, which is all that its refcount holds`,
        );
      }
    });
    return added;
  }

  #raise(added: RefcountTally): void {
    const meta = this.#meta;
    added.forEach((cluster, count) => {
      meta.refcounts.set(cluster, meta.refcounts.get(cluster) + count);
      meta.bound();
    });
    meta.flush();
  }

  #lower(tables: readonly number[]): void {
    const meta = this.#meta;
    eachReference(meta, tables, (cluster) => {
      meta.refcounts.release(cluster * meta.clusterSize, 1);
      meta.bound();
    });
  }

  #switchTable(entries: readonly SnapshotEntry[]): void {
    const meta = this.#meta;
    const { header } = meta;
    const oldOffset = header.snapshotsOffset;
    const oldClusters = Math.ceil(snapshotTableBytes(this.list()) / meta.clusterSize);
    // An entry without a disk size means the disk's, and is written with it.
    const bytes = encodeSnapshotTable(
      entries.map((entry) => ({ ...entry, diskSize: entry.diskSize ?? header.size })),
    );
    const offset = meta.writeNewTable(bytes);
    meta.changeHeader({ snapshotsOffset: offset, snapshotCount: entries.length });
    if (oldClusters > 0 && oldOffset !== 0) meta.refcounts.release(oldOffset, oldClusters);
  }

  #expectNoDataFile(): void {
    if (this.#meta.hasDataFile) {
      throw new ImageError(
        this.#meta.path,
        "unsupported",
        "an image with an external data file cannot have internal snapshots",
      );
    }
  }
}

/** An L1 table without copied flags: nothing that a snapshot shares may be written in place. */
function l1Bytes(tables: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(tables.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [index, table] of tables.entries()) writeOffset(view, index * 8, table);
  return bytes;
}
