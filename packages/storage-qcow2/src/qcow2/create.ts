import type { BlockFile } from "../file/block-file.ts";
import { ImageError } from "../image-error.ts";
import { formatLuks, type LuksOptions } from "../luks/luks-key.ts";
import {
  encodeHeader,
  featureNameTable,
  l1EntriesFor,
  type Qcow2Header,
  setLuksRange,
  withExtensionText,
  writeOffset,
} from "./header.ts";
import {
  Autoclear,
  Compatible,
  CompressionType,
  Extension,
  Incompatible,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_REFCOUNT_TABLE_BYTES,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
  V2_HEADER_LENGTH,
  V3_HEADER_LENGTH,
} from "./spec.ts";

const SECTOR = 512;

/** What a new image is like; the defaults are qemu-img's. */
export interface Qcow2CreateOptions {
  /** Bytes; rounded up to sectors. */
  readonly size: number;
  /** 2 is `compat=0.10`, 3 `compat=1.1`. */
  readonly version?: 2 | 3;
  readonly clusterSize?: number;
  readonly refcountBits?: number;
  readonly lazyRefcounts?: boolean;
  readonly extendedL2?: boolean;
  readonly compressionType?: "zlib" | "zstd";
  readonly backingFile?: string;
  readonly backingFormat?: string;
  /** The name of an external data file, as it is to stand in the image. */
  readonly dataFile?: string;
  readonly dataFileRaw?: boolean;
  /** Guest data are encrypted with a new key. */
  readonly encryption?: LuksOptions;
  /** Guest data are encrypted with the key of another image, whose header and key slots these are. */
  readonly luksHeader?: Uint8Array;
}

/**
 * Writes an empty image into `file`.
 * @throws {@link ImageError} naming the option that cannot be
 */
export function createQcow2(file: BlockFile, options: Qcow2CreateOptions): void {
  const header = headerFor(options, file.path);
  const clusterSize = 2 ** header.clusterBits;
  const perBlock = (clusterSize * 8) / 2 ** header.refcountOrder;
  const luks = options.luksHeader ?? (options.encryption && formatLuks(options.encryption, file.path));
  const luksClusters = Math.ceil((luks?.length ?? 0) / clusterSize);
  const l1Clusters = Math.ceil((header.l1Size * 8) / clusterSize);
  let blocks = 1;
  let tableClusters = 1;
  for (;;) {
    const total = 1 + tableClusters + blocks + l1Clusters + luksClusters;
    const neededBlocks = Math.ceil(total / perBlock);
    const neededTable = Math.ceil((neededBlocks * 8) / clusterSize);
    if (neededBlocks <= blocks && neededTable <= tableClusters) break;
    blocks = Math.max(blocks, neededBlocks);
    tableClusters = Math.max(tableClusters, neededTable);
  }
  if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
    throw new ImageError(
      file.path,
      "request",
      "the image is too large for its cluster size and refcount width",
    );
  }
  const total = 1 + tableClusters + blocks + l1Clusters + luksClusters;
  header.refcountTableOffset = clusterSize;
  header.refcountTableClusters = tableClusters;
  header.l1TableOffset = clusterSize * (1 + tableClusters + blocks);

  const table = new Uint8Array(tableClusters * clusterSize);
  const view = new DataView(table.buffer);
  for (let block = 0; block < blocks; block += 1) {
    writeOffset(view, block * 8, (1 + tableClusters + block) * clusterSize);
    file.write(
      (1 + tableClusters + block) * clusterSize,
      onesBlock(header, Math.min(perBlock, total - block * perBlock)),
    );
  }
  file.write(header.refcountTableOffset, table);
  const zeroes = new Uint8Array(clusterSize);
  for (let cluster = 0; cluster < l1Clusters; cluster += 1) {
    file.write(header.l1TableOffset + cluster * clusterSize, zeroes);
  }
  if (luks !== undefined) {
    const offset = clusterSize * (total - luksClusters);
    const padded = new Uint8Array(luksClusters * clusterSize);
    padded.set(luks);
    file.write(offset, padded);
    setLuksRange(header, offset, luks.length);
  }
  const head = new Uint8Array(clusterSize);
  head.set(encodeHeader(header, file.path));
  file.write(SECTOR, head.subarray(SECTOR));
  file.sync();
  // The first sector, which a disk writes whole, makes the file an image.
  file.write(0, head.subarray(0, SECTOR));
  file.sync();
}

/** A refcount block whose first `count` clusters are in use. */
function onesBlock(header: Qcow2Header, count: number): Uint8Array {
  const bytes = new Uint8Array(2 ** header.clusterBits);
  const bits = 2 ** header.refcountOrder;
  for (let index = 0; index < count; index += 1) {
    if (bits >= 8) bytes[((index + 1) * bits) / 8 - 1] = 1;
    else {
      const bit = index * bits;
      bytes[bit >>> 3] = (bytes[bit >>> 3] ?? 0) | (1 << (bit & 7));
    }
  }
  return bytes;
}

function headerFor(options: Qcow2CreateOptions, path: string): Qcow2Header {
  const refuse = (when: boolean, message: string): void => {
    if (when) throw new ImageError(path, "request", message);
  };
  const version = options.version ?? 3;
  const clusterBits = Math.log2(options.clusterSize ?? 65536);
  const refcountBits = options.refcountBits ?? 16;
  const refcountOrder = Math.log2(refcountBits);
  refuse(
    !Number.isInteger(clusterBits) || clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS,
    "cluster_size: expected a power of two from 512 to 2 MiB",
  );
  refuse(
    !Number.isInteger(refcountOrder) || refcountOrder > 6,
    "refcount_bits: expected a power of two up to 64",
  );
  refuse(version === 2 && refcountBits !== 16, "refcount_bits: version 2 has 16 only");
  const extras =
    options.lazyRefcounts === true ||
    options.extendedL2 === true ||
    options.compressionType === "zstd" ||
    options.dataFile !== undefined;
  refuse(
    version === 2 && extras,
    "lazy_refcounts, extended_l2, compression_type and data_file need compat=1.1",
  );
  refuse(
    options.extendedL2 === true && clusterBits < MIN_EXTENDED_L2_CLUSTER_BITS,
    "extended_l2: needs clusters of at least 16 KiB",
  );
  refuse(
    options.dataFileRaw === true && (options.dataFile === undefined || options.backingFile !== undefined),
    "data_file_raw: needs a data_file and no backing file",
  );
  refuse(
    (options.encryption ?? options.luksHeader) !== undefined && options.dataFileRaw === true,
    "encrypt.format: the data file of an encrypted image is not raw",
  );
  refuse(
    options.backingFile !== undefined && options.backingFormat === undefined,
    "backing_fmt: a backing file needs its format stated",
  );
  refuse(
    !Number.isSafeInteger(options.size) || options.size < 0,
    `size: ${options.size} is no number of bytes`,
  );
  const zstd = options.compressionType === "zstd";
  const header: Qcow2Header = {
    version,
    clusterBits,
    size: Math.ceil(options.size / 512) * 512,
    cryptMethod: 0,
    l1Size: 0,
    l1TableOffset: 0,
    refcountTableOffset: 0,
    refcountTableClusters: 0,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible:
      (options.dataFile === undefined ? 0n : Incompatible.DATA_FILE) |
      (zstd ? Incompatible.COMPRESSION_TYPE : 0n) |
      (options.extendedL2 === true ? Incompatible.EXTENDED_L2 : 0n),
    compatible: options.lazyRefcounts === true ? Compatible.LAZY_REFCOUNTS : 0n,
    autoclear: options.dataFileRaw === true ? Autoclear.RAW_DATA_FILE : 0n,
    refcountOrder,
    compressionType: zstd ? CompressionType.ZSTD : CompressionType.DEFLATE,
    headerLength: version === 2 ? V2_HEADER_LENGTH : V3_HEADER_LENGTH + 8,
    laterFields: new Uint8Array(0),
    // Small clusters have to leave room for the backing file's name, and for a header beside the old one as it changes.
    extensions: version === 3 && clusterBits > MIN_CLUSTER_BITS + 1 ? [featureNameTable()] : [],
    backingFile: options.backingFile,
    backingFileOffset: 0,
  };
  for (const [type, value] of [
    [Extension.DATA_FILE, options.dataFile],
    [Extension.BACKING_FORMAT, options.backingFormat],
  ] as const) {
    header.extensions = withExtensionText(header.extensions, type, value);
  }
  header.l1Size = l1EntriesFor(header, header.size);
  refuse(header.l1Size * 8 > MAX_L1_BYTES, "size: too large for this cluster size");
  return header;
}
