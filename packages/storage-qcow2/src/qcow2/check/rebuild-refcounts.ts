import type { BlockFile } from "../../file/block-file.ts";
import { ImageError } from "../../image-error.ts";
import { type Qcow2Header, writeHeaderFields, writeOffset } from "../header.ts";
import { MAX_REFCOUNT_TABLE_BYTES } from "../spec.ts";
import type { RefcountTally } from "./refcount-tally.ts";
import { putRefcount } from "../refcount-entry.ts";

/**
 * Writes a new refcount table with blocks behind everything in use, and switches the header to it. The clusters of
 * the old ones become free.
 * @param tally what the tables reference, without the refcount table and its blocks; gains the new ones
 */
export function rebuildRefcounts(file: BlockFile, header: Qcow2Header, tally: RefcountTally): void {
  const clusterSize = 2 ** header.clusterBits;
  const bits = 2 ** header.refcountOrder;
  const perBlock = (clusterSize * 8) / bits;
  const start = Math.max(tally.end, Math.ceil(file.size() / clusterSize));

  const blocks = new Set<number>();
  tally.forEach((cluster) => void blocks.add(Math.floor(cluster / perBlock)));
  let tableClusters = 1;
  for (;;) {
    const before = blocks.size + tableClusters;
    for (let block = Math.floor(start / perBlock); block * perBlock < start + before; block += 1)
      blocks.add(block);
    let highest = 0;
    for (const block of blocks) highest = Math.max(highest, block);
    tableClusters = Math.max(tableClusters, Math.ceil(((highest + 1) * 8) / clusterSize));
    if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
      throw new ImageError(
        file.path,
        "unsupported",
        "the file is too long for a refcount table of this format",
      );
    }
    if (blocks.size + tableClusters === before) break;
  }
  for (let index = 0; index < tableClusters + blocks.size; index += 1) tally.add(start + index);

  const table = new Uint8Array(tableClusters * clusterSize);
  const tableView = new DataView(table.buffer);
  const bytes = new Uint8Array(clusterSize);
  const view = new DataView(bytes.buffer);
  let current = -1;
  let written = 0;
  const finish = (): void => {
    if (current < 0) return;
    const offset = (start + tableClusters + written) * clusterSize;
    file.write(offset, bytes);
    writeOffset(tableView, current * 8, offset);
    written += 1;
  };
  tally.forEach((cluster, count) => {
    const block = Math.floor(cluster / perBlock);
    if (block !== current) {
      finish();
      bytes.fill(0);
      current = block;
    }
    putRefcount(view, bits, cluster % perBlock, count);
  });
  finish();
  file.write(start * clusterSize, table);
  file.sync();
  header.refcountTableOffset = start * clusterSize;
  header.refcountTableClusters = tableClusters;
  writeHeaderFields(file, header);
  file.sync();
}
