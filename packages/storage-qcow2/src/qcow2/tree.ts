import { entryOf } from "./cluster-map.ts";
import type { Qcow2Metadata } from "./metadata.ts";
import { COPIED_HI, OFFSET_HI, OFFSET_LO } from "./spec.ts";

/** Offsets of the L2 tables of an L1 table somewhere in the file, 0 where there is none. */
export function l2TablesOf(meta: Qcow2Metadata, l1TableOffset: number, l1Size: number): number[] {
  const bytes = new Uint8Array(l1Size * 8);
  meta.file.file.read(l1TableOffset, bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: l1Size }, (_, index) => {
    const offset =
      (view.getUint32(index * 8) & OFFSET_HI) * 2 ** 32 + ((view.getUint32(index * 8 + 4) & OFFSET_LO) >>> 0);
    if (offset % meta.clusterSize !== 0) {
      meta.corrupt(
        `L2 table ${index} of the L1 table at ${l1TableOffset} lies at ${offset}, which is not a cluster`,
      );
    }
    return offset;
  });
}

/**
 * Expects tables inside the file, each named once: what is done for each of them is bounded by what the file holds.
 * @throws {@link ImageError} with fault `corrupt`
 */
export function expectTree(meta: Qcow2Metadata, tables: readonly number[]): void {
  const end = meta.file.file.size();
  const seen = new Set<number>();
  for (const [l1Index, table] of tables.entries()) {
    if (table === 0) continue;
    if (table >= end) meta.corrupt(`L2 table ${l1Index} lies at ${table}, outside of the file`);
    if (seen.has(table)) meta.corrupt(`L2 table ${l1Index} at ${table} is another one's too`);
    seen.add(table);
  }
}

/** A table in a hole of the file has no entries: an image with a huge sparse file is not read through. */
function isHole(meta: Qcow2Metadata, table: number): boolean {
  const extent = meta.file.file.extentAt?.(table, meta.clusterSize);
  return extent?.isHole === true && extent.length >= meta.clusterSize;
}

/**
 * Visits every reference to a host cluster that a tree of L2 tables makes: the tables themselves, clusters of data,
 * and for compressed clusters each host cluster that they touch.
 */
export function eachReference(
  meta: Qcow2Metadata,
  tables: readonly number[],
  visit: (cluster: number) => void,
): void {
  for (const [l1Index, table] of tables.entries()) {
    if (table === 0) continue;
    visit(table / meta.clusterSize);
    if (isHole(meta, table)) continue;
    for (let index = 0; index < meta.entriesPerL2; index += 1) {
      const entry = entryOf(meta, table, index, l1Index * meta.entriesPerL2 + index);
      if (entry.kind === "compressed") {
        const first = Math.floor(entry.hostOffset / meta.clusterSize);
        const last = Math.floor((entry.hostOffset + entry.compressedBytes - 1) / meta.clusterSize);
        for (let cluster = first; cluster <= last; cluster += 1) visit(cluster);
      } else if (entry.hostOffset !== 0 && !meta.hasDataFile) visit(entry.hostOffset / meta.clusterSize);
    }
  }
}

/** Makes the copied flags of the active tables say what the refcounts say. */
export function updateCopiedFlags(meta: Qcow2Metadata): void {
  for (let l1Index = 0; l1Index < meta.l1.entries; l1Index += 1) {
    const table = meta.l2TableOffset(l1Index);
    if (table === 0) continue;
    const isOnly = meta.refcounts.get(table / meta.clusterSize) === 1;
    if (isOnly !== ((meta.l1.upper(l1Index) & COPIED_HI) !== 0))
      meta.l1.set(l1Index, table, isOnly ? COPIED_HI : 0);
    if (isHole(meta, table)) continue;
    for (let index = 0; index < meta.entriesPerL2; index += 1) {
      const entry = entryOf(meta, table, index, l1Index * meta.entriesPerL2 + index);
      if (entry.kind === "compressed" || entry.hostOffset === 0 || meta.hasDataFile) continue;
      const isCopied = meta.refcounts.get(entry.hostOffset / meta.clusterSize) === 1;
      if (isCopied === entry.isCopied) continue;
      const slice = meta.l2Slice(table, index);
      const at = (index % meta.entriesPerSlice) * meta.entryBytes;
      slice.view.setUint32(at, (slice.view.getUint32(at) ^ COPIED_HI) >>> 0);
      meta.markL2Dirty(slice);
      meta.bound();
    }
  }
}
