import type { BlockFile } from "../file/block-file.ts";
import { ImageError } from "../image-error.ts";
import { type HeaderExtension, type Qcow2Header, readOffset, writeOffset } from "./header.ts";
import { Autoclear, Extension } from "./spec.ts";

/** Flags of a bitmap (docs/interop/qcow2: Bitmap directory). */
export const BitmapFlag = {
  /** Somebody changes it in memory; found in a closed image, its content cannot be trusted. */
  IN_USE: 1,
  /** Enabled: writes set its bits. */
  AUTO: 2,
  EXTRA_DATA_COMPATIBLE: 4,
} as const;

/** The only type of bitmap there is: dirty tracking. */
const TYPE_DIRTY_TRACKING = 1;

/** QEMU's limits. */
export const MAX_BITMAPS = 65535;
const MAX_DIRECTORY_BYTES = 0x2000000;
const MAX_TABLE_ENTRIES = 0x8000000 / 8;
export const MAX_BITMAP_BYTES = 0x20000000;
const MIN_GRANULARITY_BITS = 9;
const MAX_GRANULARITY_BITS = 31;
export const MAX_BITMAP_NAME = 1023;

const FIXED = 24;
const text = new TextDecoder();

/** The bitmaps extension of the header. */
export interface BitmapsExtension {
  readonly count: number;
  readonly directorySize: number;
  readonly directoryOffset: number;
}

/** An entry of the bitmap directory. */
export interface BitmapEntry {
  tableOffset: number;
  /** Entries of 64 bits. */
  tableSize: number;
  flags: number;
  readonly granularityBits: number;
  readonly name: string;
  readonly extraData: Uint8Array;
}

/** The extension, where the header has it and its autoclear bit says it holds. */
export function bitmapsExtension(header: Qcow2Header, path: string): BitmapsExtension | undefined {
  if ((header.autoclear & Autoclear.BITMAPS) === 0n) return undefined;
  const data = header.extensions.find((extension) => extension.type === Extension.BITMAPS)?.data;
  if (data === undefined) return undefined;
  const corrupt = (message: string): ImageError => new ImageError(path, "corrupt", `bitmaps: ${message}`);
  if (data.length !== 24) throw corrupt(`expected an extension of 24 bytes, found ${data.length}`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const found = {
    count: view.getUint32(0),
    directorySize: readOffset(view, 8),
    directoryOffset: readOffset(view, 16),
  };
  if (found.count === 0 || found.count > MAX_BITMAPS) throw corrupt(`${found.count} bitmaps`);
  if (found.directorySize > MAX_DIRECTORY_BYTES) throw corrupt(`a directory of ${found.directorySize} bytes`);
  if (
    !Number.isSafeInteger(found.directoryOffset) ||
    found.directoryOffset % 2 ** header.clusterBits !== 0 ||
    found.directoryOffset === 0
  ) {
    throw corrupt(`the directory lies at ${found.directoryOffset}, which is not a cluster`);
  }
  return found;
}

/** The header's extensions with this one put in, in its place, or taken out. */
export function withBitmapsExtension(
  extensions: readonly HeaderExtension[],
  value: BitmapsExtension | undefined,
): HeaderExtension[] {
  const at = extensions.findIndex((extension) => extension.type === Extension.BITMAPS);
  if (value === undefined) return extensions.filter((_, index) => index !== at);
  const data = new Uint8Array(24);
  const view = new DataView(data.buffer);
  view.setUint32(0, value.count);
  writeOffset(view, 8, value.directorySize);
  writeOffset(view, 16, value.directoryOffset);
  const mine = { type: Extension.BITMAPS, data };
  return at < 0 ? [...extensions, mine] : extensions.with(at, mine);
}

/** Reads the directory. @throws {@link ImageError} with fault `corrupt`, or `unsupported` for a bitmap we cannot keep */
export function readBitmapDirectory(
  file: BlockFile,
  header: Qcow2Header,
  { count, directorySize, directoryOffset }: BitmapsExtension,
): BitmapEntry[] {
  const corrupt = (message: string): ImageError =>
    new ImageError(file.path, "corrupt", `bitmaps: ${message}`);
  if (directoryOffset + directorySize > file.size() + 2 ** header.clusterBits) {
    throw corrupt("the file ends inside the directory");
  }
  const bytes = new Uint8Array(directorySize);
  file.read(directoryOffset, bytes);
  const view = new DataView(bytes.buffer);
  const entries: BitmapEntry[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + FIXED > bytes.length || entries.length >= count) throw corrupt("the directory's size is wrong");
    const type = view.getUint8(at + 16);
    const granularityBits = view.getUint8(at + 17);
    const nameLength = view.getUint16(at + 18);
    const extraLength = view.getUint32(at + 20);
    const tableOffset = readOffset(view, at);
    const tableSize = view.getUint32(at + 8);
    const end = at + FIXED + extraLength + nameLength;
    if (end > bytes.length) throw corrupt(`entry ${entries.length} leaves the directory`);
    const name = text.decode(bytes.subarray(end - nameLength, end));
    const flags = view.getUint32(at + 12);
    if (type !== TYPE_DIRTY_TRACKING) {
      throw new ImageError(file.path, "unsupported", `bitmap '${name}' has the unknown type ${type}`);
    }
    if (granularityBits < MIN_GRANULARITY_BITS || granularityBits > MAX_GRANULARITY_BITS) {
      throw corrupt(`'${name}' has granularity 2^${granularityBits}`);
    }
    if (!Number.isSafeInteger(tableOffset) || tableOffset % 2 ** header.clusterBits !== 0) {
      throw corrupt(`the table of '${name}' lies at ${tableOffset}, which is not a cluster`);
    }
    if (
      tableSize > MAX_TABLE_ENTRIES ||
      tableSize * 2 ** header.clusterBits > MAX_BITMAP_BYTES + 2 ** header.clusterBits
    ) {
      throw corrupt(`the table of '${name}' has ${tableSize} entries`);
    }
    if (nameLength === 0 || nameLength > MAX_BITMAP_NAME)
      throw corrupt(`entry ${entries.length} has no good name`);
    if (extraLength > 0 && (flags & BitmapFlag.EXTRA_DATA_COMPATIBLE) === 0) {
      throw new ImageError(file.path, "unsupported", `bitmap '${name}' has extra data that we do not know`);
    }
    entries.push({
      tableOffset,
      tableSize,
      flags,
      granularityBits,
      name,
      extraData: bytes.slice(at + FIXED, at + FIXED + extraLength),
    });
    at += Math.ceil((end - at) / 8) * 8;
  }
  if (entries.length !== count) throw corrupt(`expected ${count} entries, found ${entries.length}`);
  return entries;
}

export function encodeBitmapDirectory(entries: readonly BitmapEntry[]): Uint8Array {
  const encoder = new TextEncoder();
  const names = entries.map(({ name }) => encoder.encode(name));
  const sizes = entries.map(
    ({ extraData }, index) => Math.ceil((FIXED + extraData.length + (names[index]?.length ?? 0)) / 8) * 8,
  );
  const bytes = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [index, entry] of entries.entries()) {
    const name = names[index] ?? new Uint8Array(0);
    writeOffset(view, at, entry.tableOffset);
    view.setUint32(at + 8, entry.tableSize);
    view.setUint32(at + 12, entry.flags);
    view.setUint8(at + 16, TYPE_DIRTY_TRACKING);
    view.setUint8(at + 17, entry.granularityBits);
    view.setUint16(at + 18, name.length);
    view.setUint32(at + 20, entry.extraData.length);
    bytes.set(entry.extraData, at + FIXED);
    bytes.set(name, at + FIXED + entry.extraData.length);
    at += sizes[index] ?? 0;
  }
  return bytes;
}
