import type { BlockFile } from "../../file/block-file.ts";
import { ImageError } from "../../image-error.ts";
import { type Qcow2Header, readHeader, writeHeaderFields } from "../header.ts";
import { Incompatible } from "../spec.ts";
import { type CheckReport, emptyReport, note } from "./check-report.ts";
import { rebuildRefcounts } from "./rebuild-refcounts.ts";
import { StoredRefcounts } from "./stored-refcounts.ts";
import { TableWalk } from "./table-walk.ts";

/** What {@link checkQcow2} may change: nothing, refcounts that are too high, or everything that is wrong. */
export type Repair = "none" | "leaks" | "all";

/**
 * Checks the tables and refcounts of an image against each other, on the file itself and without the code that reads
 * and writes images (docs/interop/qcow2). A repair sets refcounts and copied flags to what the tables say, and takes the
 * dirty and corrupt bits away once nothing is wrong. It gives no data up: an entry that names what cannot be stays, and
 * the report says so. While there is such an entry, or a table of snapshots or bitmaps that cannot be read, it frees
 * nothing, for the clusters may be what the entry meant.
 *
 * Refcounts rise before they fall, with a barrier between, so that a power failure in the middle leaves what the next
 * repair can finish. Memory follows what the file holds, not what its header claims.
 * @throws {@link ImageError} where the header cannot be read, or a repair meets the limits of the format
 */
export function checkQcow2(file: BlockFile, repair: Repair = "none"): CheckReport {
  if (repair !== "none" && file.readOnly)
    throw new ImageError(file.path, "request", "the image is read-only");
  const report = runOnce(file, repair);
  if (repair === "none" || (report.corruptionsFixed === 0 && report.leaksFixed === 0)) {
    if (repair !== "none") clearBits(file, report);
    return report;
  }
  const again = runOnce(file, "none");
  clearBits(file, again);
  return {
    ...again,
    corruptionsFixed: Math.max(0, report.corruptions - again.corruptions),
    leaksFixed: Math.max(0, report.leaks - again.leaks),
    messages: report.messages,
  };
}

function runOnce(file: BlockFile, repair: Repair): CheckReport {
  const header = readHeader(file);
  const clusterSize = 2 ** header.clusterBits;
  const report = emptyReport();
  report.totalClusters = Math.ceil(header.size / clusterSize);
  const walk = new TableWalk(file, header, report, repair === "all");
  const stored = new StoredRefcounts(file, header);
  walk.walk(stored);
  const { tally } = walk;

  const raise: { cluster: number; count: number }[] = [];
  const lower: { cluster: number; count: number }[] = [];
  let highest = tally.end - 1;
  tally.forEach((cluster, count) => {
    const now = stored.get(cluster);
    if (now >= count) return;
    report.corruptions += 1;
    note(report, `ERROR cluster ${cluster} refcount=${now} reference=${count}`);
    if (count > stored.max) {
      report.checkErrors += 1;
      note(report, `ERROR cluster ${cluster} is referenced more often than its refcount can say`);
    } else if ((stored.blocks[Math.floor(cluster / stored.perBlock)] ?? 0) === 0) walk.needsRebuild = true;
    else raise.push({ cluster, count });
  });
  for (let block = 0; block < stored.blocks.length; block += 1) {
    if (stored.isEmptyBlock(block)) continue;
    const first = block * stored.perBlock;
    for (let cluster = first; cluster < Math.min(first + stored.perBlock, walk.fileClusters); cluster += 1) {
      const now = stored.get(cluster);
      if (now === 0) continue;
      if (cluster > highest) highest = cluster;
      const count = tally.get(cluster);
      if (now <= count) continue;
      report.leaks += 1;
      note(report, `Leaked cluster ${cluster} refcount=${now} reference=${count}`);
      lower.push({ cluster, count });
    }
  }
  report.imageEndOffset = (highest + 1) * clusterSize;

  // What could not be counted may be referenced from where nobody could read: it keeps its clusters and its flags.
  const mayRepair = walk.isComplete && report.checkErrors === 0;
  const mayFree = mayRepair && !walk.keepsEntries;
  const isSound = report.corruptions === 0 && mayFree;
  if (repair === "all" && walk.needsRebuild && !mayFree) {
    // New refcounts would lie where an entry points that may yet be right.
    note(report, "ERROR the refcounts cannot be made anew: nobody can tell everything that is in use");
    if (!walk.isComplete) report.checkErrors += 1;
    walk.checkCopied((cluster) => stored.get(cluster), false);
  } else if (repair === "all" && walk.needsRebuild) {
    file.sync();
    walk.forgetRefcountTable();
    rebuildRefcounts(file, header, tally);
    report.corruptionsFixed += 1;
    walk.checkCopied((cluster) => tally.get(cluster), true);
  } else if (repair === "all" && mayRepair) {
    for (const { cluster, count } of raise) stored.set(cluster, count);
    stored.writeBack();
    file.sync();
    report.corruptionsFixed += raise.length;
    walk.checkCopied((cluster) => tally.get(cluster), mayFree);
    // What looks like its table may be a guest's data that a damaged entry names: no flag in it is changed, and nothing
    // is written to the image until it has been settled.
    if (walk.sharesInPlace) markCorrupt(file);
  } else if (repair === "leaks" && isSound) {
    walk.checkCopied((cluster) => tally.get(cluster), true);
  } else walk.checkCopied((cluster) => stored.get(cluster), false);
  const isToFree = repair === "leaks" || (repair === "all" && !walk.needsRebuild && report.checkErrors === 0);
  if (isToFree && walk.isComplete && !walk.keepsEntries) {
    file.sync();
    for (const { cluster, count } of lower) stored.set(cluster, count);
    stored.writeBack();
    report.leaksFixed += lower.length;
  }
  if (repair !== "none") file.sync();
  return report;
}

function markCorrupt(file: BlockFile): void {
  const header: Qcow2Header = readHeader(file);
  if (header.version < 3) return;
  header.incompatible |= Incompatible.CORRUPT;
  writeHeaderFields(file, header);
  file.sync();
}

/** Takes the dirty and corrupt bits away from an image that has nothing wrong with it. */
function clearBits(file: BlockFile, report: CheckReport): void {
  if (report.corruptions > 0 || report.checkErrors > 0) return;
  const header: Qcow2Header = readHeader(file);
  const bits = Incompatible.DIRTY | Incompatible.CORRUPT;
  if ((header.incompatible & bits) === 0n) return;
  header.incompatible &= ~bits;
  writeHeaderFields(file, header);
  file.sync();
}
