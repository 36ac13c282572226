import { ImageError } from "../image-error.ts";
import type { BlockFile } from "../file/block-file.ts";
import { l1EntriesFor, type Qcow2Header, readOffset, writeOffset } from "./header.ts";
import { MAX_L1_BYTES, MAX_SNAPSHOT_EXTRA_BYTES, MAX_SNAPSHOT_TABLE_BYTES } from "./spec.ts";

/** An entry of the snapshot table (docs/interop/qcow2: Snapshots). */
export interface SnapshotEntry {
  l1TableOffset: number;
  /** Entries. */
  l1Size: number;
  readonly id: string;
  readonly name: string;
  readonly dateSec: number;
  readonly dateNsec: number;
  readonly vmClockNsec: bigint;
  readonly vmStateSize: number;
  /** Bytes of the disk when the snapshot was taken; `undefined` in an entry too old to have it. */
  readonly diskSize: number | undefined;
  /** Instructions executed, all ones where nobody counted. */
  readonly icount: bigint | undefined;
  /** Extra data of a later version of the format, kept. */
  readonly laterData: Uint8Array;
}

const FIXED = 40;
const text = new TextDecoder();
const bytesOf = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Reads the table. @throws {@link ImageError} with fault `corrupt` where it runs over its bounds */
export function readSnapshotTable(file: BlockFile, header: Qcow2Header): SnapshotEntry[] {
  const entries: SnapshotEntry[] = [];
  let at = header.snapshotsOffset;
  const corrupt = (message: string): ImageError =>
    new ImageError(file.path, "corrupt", `snapshot ${entries.length}: ${message}`);
  for (let index = 0; index < header.snapshotCount; index += 1) {
    if (at + FIXED > file.size()) throw corrupt("the file ends inside the snapshot table");
    const fixed = new Uint8Array(FIXED);
    file.read(at, fixed);
    const view = new DataView(fixed.buffer);
    const idLength = view.getUint16(12);
    const nameLength = view.getUint16(14);
    const extraLength = view.getUint32(36);
    if (extraLength > MAX_SNAPSHOT_EXTRA_BYTES) {
      throw corrupt(`extra data: expected at most ${MAX_SNAPSHOT_EXTRA_BYTES} bytes, found ${extraLength}`);
    }
    const rest = new Uint8Array(extraLength + idLength + nameLength);
    file.read(at + FIXED, rest);
    const extra = new DataView(rest.buffer, 0, extraLength);
    const names = rest.subarray(extraLength);
    entries.push({
      l1TableOffset: readOffset(view, 0),
      l1Size: view.getUint32(8),
      id: text.decode(names.subarray(0, idLength)),
      name: text.decode(names.subarray(idLength)),
      dateSec: view.getUint32(16),
      dateNsec: view.getUint32(20),
      vmClockNsec: view.getBigUint64(24),
      vmStateSize: extraLength >= 8 ? readOffset(extra, 0) : view.getUint32(32),
      diskSize: extraLength >= 16 ? readOffset(extra, 8) : undefined,
      icount: extraLength >= 24 ? extra.getBigUint64(16) : undefined,
      laterData: rest.slice(Math.min(24, extraLength), extraLength),
    });
    at += Math.ceil((FIXED + rest.length) / 8) * 8;
    if (at - header.snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) throw corrupt("the table is too long");
  }
  return entries;
}

/** The snapshot of that id, or of that name. @throws {@link ImageError} where there is none */
export function findSnapshot(
  entries: readonly SnapshotEntry[],
  idOrName: string,
  path: string,
): SnapshotEntry {
  const found = entries.find(({ id }) => id === idOrName) ?? entries.find(({ name }) => name === idOrName);
  if (found === undefined) throw new ImageError(path, "request", `there is no snapshot '${idOrName}'`);
  return found;
}

/** True where the L1 table of a snapshot can be one: a cluster, within the format's bounds, long enough for its disk. */
export function hasPossibleL1(entry: SnapshotEntry, header: Qcow2Header): boolean {
  const size = entry.diskSize ?? 0;
  return (
    Number.isSafeInteger(size) &&
    Number.isSafeInteger(entry.l1TableOffset) &&
    entry.l1TableOffset % 2 ** header.clusterBits === 0 &&
    entry.l1Size * 8 <= MAX_L1_BYTES &&
    entry.l1Size >= l1EntriesFor(header, size)
  );
}

/** The bytes of a table. */
export function encodeSnapshotTable(entries: readonly SnapshotEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let length = 0;
  for (const entry of entries) {
    const id = bytesOf(entry.id);
    const name = bytesOf(entry.name);
    const extraLength = 24 + entry.laterData.length;
    const bytes = new Uint8Array(Math.ceil((FIXED + extraLength + id.length + name.length) / 8) * 8);
    const view = new DataView(bytes.buffer);
    writeOffset(view, 0, entry.l1TableOffset);
    view.setUint32(8, entry.l1Size);
    view.setUint16(12, id.length);
    view.setUint16(14, name.length);
    view.setUint32(16, entry.dateSec);
    view.setUint32(20, entry.dateNsec);
    view.setBigUint64(24, entry.vmClockNsec);
    view.setUint32(32, Math.min(entry.vmStateSize, 0xffffffff));
    view.setUint32(36, extraLength);
    writeOffset(view, 40, entry.vmStateSize);
    writeOffset(view, 48, entry.diskSize ?? 0);
    view.setBigUint64(56, entry.icount ?? 0xffffffffffffffffn);
    bytes.set(entry.laterData, 64);
    bytes.set(id, FIXED + extraLength);
    bytes.set(name, FIXED + extraLength + id.length);
    parts.push(bytes);
    length += bytes.length;
  }
  const table = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    table.set(part, at);
    at += part.length;
  }
  return table;
}

/** Bytes that the table takes in the file. */
export const snapshotTableBytes = (entries: readonly SnapshotEntry[]): number =>
  entries.reduce((sum, entry) => {
    const extra =
      (entry.diskSize === undefined ? 8 : entry.icount === undefined ? 16 : 24) + entry.laterData.length;
    const names = bytesOf(entry.id).length + bytesOf(entry.name).length;
    return sum + Math.ceil((FIXED + extra + names) / 8) * 8;
  }, 0);
