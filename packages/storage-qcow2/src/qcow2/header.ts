import type { BlockFile } from "../file/block-file.ts";
import { ImageError } from "../image-error.ts";
import {
  Autoclear,
  CompressionType,
  CryptMethod,
  Extension,
  FEATURE_NAMES,
  Incompatible,
  MAX_BACKING_NAME_BYTES,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_LUKS_BYTES,
  MAX_REFCOUNT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
  QCOW2_MAGIC,
  V2_HEADER_LENGTH,
  V3_HEADER_LENGTH,
} from "./spec.ts";

/** A header extension as it stands in the file; those we do not know are kept. */
export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** The header cluster (docs/interop/qcow2: Header). Offsets and sizes are bytes. */
export interface Qcow2Header {
  version: 2 | 3;
  clusterBits: number;
  size: number;
  cryptMethod: number;
  l1Size: number;
  l1TableOffset: number;
  refcountTableOffset: number;
  refcountTableClusters: number;
  snapshotCount: number;
  snapshotsOffset: number;
  incompatible: bigint;
  compatible: bigint;
  autoclear: bigint;
  refcountOrder: number;
  /** 0 deflate, 1 zstd. */
  compressionType: number;
  /** Bytes before the extensions: 72 in version 2, 104 from a writer that knew no compression type. */
  headerLength: number;
  /** Fields behind the compression type that a later version of the format added. */
  laterFields: Uint8Array;
  extensions: readonly HeaderExtension[];
  backingFile: string | undefined;
  /** Where the name stands; ignored where the extensions reach that far. */
  backingFileOffset: number;
}

const text = new TextDecoder();
const bytesOf = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Reads a 64-bit big-endian field that must fit a JavaScript number. */
export function readOffset(view: DataView, at: number): number {
  return view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
}

export function writeOffset(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value >>> 0);
}

/** Reads the header of a qcow2 file. */
export function readHeader(file: BlockFile): Qcow2Header {
  const bytes = new Uint8Array(Math.min(file.size(), 2 ** MAX_CLUSTER_BITS));
  file.read(0, bytes);
  return decodeHeader(bytes, file.path);
}

/**
 * Parses the header and its extensions.
 * @param bytes the file's first cluster, or as much of it as there is
 * @throws {@link ImageError} naming the field and what was expected of it
 */
export function decodeHeader(bytes: Uint8Array, path: string): Qcow2Header {
  const invalid = (message: string): ImageError => new ImageError(path, "invalid", message);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isCut = bytes.length < V2_HEADER_LENGTH;
  if (isCut && bytes.length >= 4 && view.getUint32(0) === QCOW2_MAGIC)
    throw invalid(`the file was cut off inside the header: it has ${bytes.length} bytes`);
  if (isCut || view.getUint32(0) !== QCOW2_MAGIC) {
    throw invalid("not a qcow2 image: the first four bytes are not 'QFI\\xfb'");
  }
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) {
    throw new ImageError(path, "unsupported", `expected qcow2 version 2 or 3, found ${version}`);
  }
  const clusterBits = view.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    throw invalid(`cluster_bits: expected ${MIN_CLUSTER_BITS} to ${MAX_CLUSTER_BITS}, found ${clusterBits}`);
  }
  const clusterSize = 2 ** clusterBits;
  const v3 = version === 3;
  const headerLength = v3 ? view.getUint32(100) : V2_HEADER_LENGTH;
  if (v3 && (headerLength < V3_HEADER_LENGTH || headerLength > clusterSize || headerLength % 8 !== 0)) {
    throw invalid(
      `header_length: expected a multiple of 8 from 104 to ${clusterSize}, found ${headerLength}`,
    );
  }
  if (bytes.length < headerLength)
    throw invalid(`the file was cut off inside the header: it has ${bytes.length} bytes`);

  const header: Qcow2Header = {
    version,
    clusterBits,
    size: readOffset(view, 24),
    cryptMethod: view.getUint32(32),
    l1Size: view.getUint32(36),
    l1TableOffset: readOffset(view, 40),
    refcountTableOffset: readOffset(view, 48),
    refcountTableClusters: view.getUint32(56),
    snapshotCount: view.getUint32(60),
    snapshotsOffset: readOffset(view, 64),
    incompatible: v3 ? view.getBigUint64(72) : 0n,
    compatible: v3 ? view.getBigUint64(80) : 0n,
    autoclear: v3 ? view.getBigUint64(88) : 0n,
    refcountOrder: v3 ? view.getUint32(96) : 4,
    compressionType: headerLength > V3_HEADER_LENGTH ? view.getUint8(104) : CompressionType.DEFLATE,
    headerLength,
    laterFields: headerLength > 112 ? bytes.slice(112, headerLength) : new Uint8Array(0),
    extensions: [],
    backingFile: undefined,
    backingFileOffset: 0,
  };

  const backingOffset = readOffset(view, 8);
  const backingLength = view.getUint32(16);
  const extensionsEnd = backingOffset === 0 ? clusterSize : Math.min(backingOffset, clusterSize);
  header.extensions = decodeExtensions(bytes, headerLength, extensionsEnd, invalid);
  refuseUnknownFeatures(header, path);
  expectSane(header, path);
  if (backingOffset !== 0) {
    if (
      backingLength > MAX_BACKING_NAME_BYTES ||
      backingOffset < headerLength ||
      backingOffset + backingLength > Math.min(clusterSize, bytes.length)
    ) {
      throw invalid(
        `backing_file: expected at most 1023 bytes inside the first cluster, found ${backingLength} at ${backingOffset}`,
      );
    }
    header.backingFileOffset = backingOffset;
    header.backingFile = text.decode(bytes.subarray(backingOffset, backingOffset + backingLength));
  }
  return header;
}

function decodeExtensions(
  bytes: Uint8Array,
  from: number,
  end: number,
  invalid: (message: string) => ImageError,
): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = from;
  while (at + 8 <= Math.min(end, bytes.length)) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === Extension.END) break;
    at += 8;
    if (at + length > Math.min(end, bytes.length)) {
      throw invalid(`header extension 0x${type.toString(16)}: ${length} bytes do not fit the first cluster`);
    }
    if (type !== Extension.SKIPPED) extensions.push({ type, data: bytes.slice(at, at + length) });
    at += Math.ceil(length / 8) * 8;
  }
  return extensions;
}

function refuseUnknownFeatures(header: Qcow2Header, path: string): void {
  const known = Object.values(Incompatible).reduce((all, bit) => all | bit, 0n);
  const unknown = header.incompatible & ~known;
  if (unknown === 0n) return;
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit += 1) {
    if ((unknown & (1n << BigInt(bit))) !== 0n) names.push(featureName(header, 0, bit));
  }
  throw new ImageError(path, "unsupported", `the image uses features unknown here: ${names.join(", ")}`);
}

/** The name of a feature bit by the image's own table, or by its number. */
function featureName(header: Qcow2Header, type: number, bit: number): string {
  const table = header.extensions.find((extension) => extension.type === Extension.FEATURE_NAMES)?.data;
  for (let at = 0; table !== undefined && at + 48 <= table.length; at += 48) {
    if (table[at] !== type || table[at + 1] !== bit) continue;
    const name = table.subarray(at + 2, at + 48);
    const end = name.indexOf(0);
    return `'${text.decode(end < 0 ? name : name.subarray(0, end))}' (incompatible bit ${bit})`;
  }
  return `incompatible bit ${bit}`;
}

function expectSane(header: Qcow2Header, path: string): void {
  const clusterSize = 2 ** header.clusterBits;
  const expect = (holds: boolean, message: string): void => {
    if (!holds) throw new ImageError(path, "invalid", message);
  };
  const refuse = (unsupported: boolean, message: string): void => {
    if (unsupported) throw new ImageError(path, "unsupported", message);
  };
  refuse(
    header.cryptMethod === 1,
    "the image is encrypted with AES-CBC (crypt_method 1), which is not supported",
  );
  expect([0, 2].includes(header.cryptMethod), `crypt_method: expected 0 to 2, found ${header.cryptMethod}`);
  expect(header.refcountOrder <= 6, `refcount_order: expected at most 6, found ${header.refcountOrder}`);
  expect(Number.isSafeInteger(header.size), `size: expected less than 2^53 bytes, found ${header.size}`);
  const luks = luksRange(header);
  expect(
    header.cryptMethod !== CryptMethod.LUKS ||
      (luks !== undefined &&
        Number.isSafeInteger(luks.offset) &&
        luks.offset > 0 &&
        luks.offset % clusterSize === 0 &&
        luks.length <= MAX_LUKS_BYTES),
    `the LUKS header: expected at most ${MAX_LUKS_BYTES} bytes at a multiple of ${clusterSize}, found ` +
      (luks === undefined ? "none" : `${luks.length} at ${luks.offset}`),
  );
  const extended = (header.incompatible & Incompatible.EXTENDED_L2) !== 0n;
  expect(
    !extended || header.clusterBits >= MIN_EXTENDED_L2_CLUSTER_BITS,
    `cluster_bits: extended L2 entries need at least ${MIN_EXTENDED_L2_CLUSTER_BITS}, found ${header.clusterBits}`,
  );
  const l1Entries = l1EntriesFor(header, header.size);
  expect(
    header.l1Size * 8 <= MAX_L1_BYTES,
    `l1_size: expected at most ${MAX_L1_BYTES / 8}, found ${header.l1Size}`,
  );
  expect(
    header.l1Size >= l1Entries,
    `l1_size: ${header.size} bytes need ${l1Entries}, found ${header.l1Size}`,
  );
  const aligned = (name: string, offset: number): void => {
    expect(
      Number.isSafeInteger(offset) && offset % clusterSize === 0,
      `${name}: expected a multiple of ${clusterSize}, found ${offset}`,
    );
  };
  aligned("l1_table_offset", header.l1TableOffset);
  aligned("refcount_table_offset", header.refcountTableOffset);
  aligned("snapshots_offset", header.snapshotsOffset);
  expect(
    header.refcountTableClusters * clusterSize <= MAX_REFCOUNT_TABLE_BYTES &&
      header.refcountTableClusters > 0,
    `refcount_table_clusters: expected 1 to ${MAX_REFCOUNT_TABLE_BYTES / clusterSize}, found ${header.refcountTableClusters}`,
  );
  expect(
    header.snapshotCount <= MAX_SNAPSHOTS,
    `nb_snapshots: expected at most ${MAX_SNAPSHOTS}, found ${header.snapshotCount}`,
  );
  const typeBit = (header.incompatible & Incompatible.COMPRESSION_TYPE) !== 0n;
  expect(
    typeBit === (header.compressionType !== CompressionType.DEFLATE),
    `compression_type: ${header.compressionType} does not agree with the compression type bit`,
  );
  refuse(header.compressionType > 1, `compression_type: expected 0 or 1, found ${header.compressionType}`);
}

/** Number of L1 entries that cover `size` bytes. */
export function l1EntriesFor(
  header: Pick<Qcow2Header, "clusterBits" | "incompatible">,
  size: number,
): number {
  const entryBytes = (header.incompatible & Incompatible.EXTENDED_L2) !== 0n ? 16 : 8;
  const clusterSize = 2 ** header.clusterBits;
  return Math.ceil(size / (clusterSize * (clusterSize / entryBytes)));
}

/** The first byte behind the extensions and their end mark. */
export const extensionsEnd = (header: Qcow2Header, from: number = header.headerLength): number =>
  header.extensions.reduce((end, { data }) => end + 8 + Math.ceil(data.length / 8) * 8, from + 8);

/**
 * Writes the fields, the extensions and the backing file's name.
 * @param from where the extensions stand: right behind the fields, or further behind with an extension to be skipped before
 * @throws {@link ImageError} when they do not fit the first cluster
 */
export function encodeHeader(
  header: Qcow2Header,
  path: string,
  from: number = header.headerLength,
): Uint8Array {
  const length = header.headerLength;
  const name = header.backingFile === undefined ? undefined : bytesOf(header.backingFile);
  let end = extensionsEnd(header, from);
  const nameAt = Math.max(end, header.backingFileOffset);
  if (name !== undefined) end = nameAt;
  if (name !== undefined) end += name.length;
  if (end > 2 ** header.clusterBits || (name?.length ?? 0) > MAX_BACKING_NAME_BYTES) {
    throw new ImageError(path, "request", `a header of ${end} bytes does not fit the first cluster`);
  }
  const bytes = new Uint8Array(end);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, QCOW2_MAGIC);
  view.setUint32(4, header.version);
  if (name !== undefined) {
    writeOffset(view, 8, nameAt);
    view.setUint32(16, name.length);
    bytes.set(name, nameAt);
  }
  view.setUint32(20, header.clusterBits);
  view.setUint32(32, header.cryptMethod);
  putMutableFields(view, header);
  if (header.version === 3) {
    view.setUint32(96, header.refcountOrder);
    view.setUint32(100, length);
    if (length > V3_HEADER_LENGTH) view.setUint8(V3_HEADER_LENGTH, header.compressionType);
    bytes.set(header.laterFields, V3_HEADER_LENGTH + 8);
  }
  if (from > length) {
    view.setUint32(length, Extension.SKIPPED);
    view.setUint32(length + 4, from - length - 8);
  }
  let at = from;
  for (const { type, data } of header.extensions) {
    view.setUint32(at, type);
    view.setUint32(at + 4, data.length);
    bytes.set(data, at + 8);
    at += 8 + Math.ceil(data.length / 8) * 8;
  }
  return bytes;
}

/** Puts the fields that change during an image's life into its first bytes. */
function putMutableFields(view: DataView, header: Qcow2Header): void {
  writeOffset(view, 24, header.size);
  view.setUint32(36, header.l1Size);
  writeOffset(view, 40, header.l1TableOffset);
  writeOffset(view, 48, header.refcountTableOffset);
  view.setUint32(56, header.refcountTableClusters);
  view.setUint32(60, header.snapshotCount);
  writeOffset(view, 64, header.snapshotsOffset);
  if (header.version === 2) return;
  view.setBigUint64(72, header.incompatible);
  view.setBigUint64(80, header.compatible);
  view.setBigUint64(88, header.autoclear);
}

/**
 * Writes the fields that change during an image's life and nothing else: they lie in the first sector, which a disk writes
 * whole. The extensions and the name behind them stay, byte for byte.
 */
export function writeHeaderFields(file: Pick<BlockFile, "read" | "write">, header: Qcow2Header): void {
  const sector = new Uint8Array(512);
  file.read(0, sector);
  putMutableFields(new DataView(sector.buffer), header);
  file.write(0, sector);
}

/** The extension's text, where the header has it. */
export function extensionText(header: Qcow2Header, type: number): string | undefined {
  const found = header.extensions.find((extension) => extension.type === type);
  return found === undefined ? undefined : text.decode(found.data);
}

/** Replaces, adds or (without a value) drops an extension. */
export function withExtensionText(
  extensions: readonly HeaderExtension[],
  type: number,
  value: string | undefined,
): HeaderExtension[] {
  const kept = extensions.filter((extension) => extension.type !== type);
  return value === undefined ? kept : [{ type, data: bytesOf(value) }, ...kept];
}

/** Where the LUKS header of an encrypted image lies (docs/interop/qcow2: Full disk encryption header pointer). */
export function luksRange(
  header: Qcow2Header,
): { readonly offset: number; readonly length: number } | undefined {
  const data = header.extensions.find(({ type }) => type === Extension.CRYPTO)?.data;
  if (header.cryptMethod !== CryptMethod.LUKS || data?.length !== 16) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return { offset: readOffset(view, 0), length: readOffset(view, 8) };
}

/** Makes the header say where LUKS's lies. */
export function setLuksRange(header: Qcow2Header, offset: number, length: number): void {
  const data = new Uint8Array(16);
  const view = new DataView(data.buffer);
  writeOffset(view, 0, offset);
  writeOffset(view, 8, length);
  header.cryptMethod = CryptMethod.LUKS;
  header.extensions = [
    { type: Extension.CRYPTO, data },
    ...header.extensions.filter(({ type }) => type !== Extension.CRYPTO),
  ];
}

/** The table of feature names that a new version 3 image carries. */
export function featureNameTable(): HeaderExtension {
  const data = new Uint8Array(48 * FEATURE_NAMES.length);
  for (const [index, [type, bit, name]] of FEATURE_NAMES.entries()) {
    data[index * 48] = type;
    data[index * 48 + 1] = bit;
    data.set(bytesOf(name), index * 48 + 2);
  }
  return { type: Extension.FEATURE_NAMES, data };
}

export const hasDataFile = (header: Qcow2Header): boolean =>
  (header.incompatible & Incompatible.DATA_FILE) !== 0n;

export const hasRawDataFile = (header: Qcow2Header): boolean =>
  hasDataFile(header) && (header.autoclear & Autoclear.RAW_DATA_FILE) !== 0n;

export const hasExtendedL2 = (header: Qcow2Header): boolean =>
  (header.incompatible & Incompatible.EXTENDED_L2) !== 0n;
