import type { BlockFile } from "../file/block-file.ts";
import { decodeLuksHeader, type LuksHeader } from "../luks/luks-header.ts";
import { extensionText, hasRawDataFile, luksRange, type Qcow2Header } from "./header.ts";
import { readLuks } from "./image-encryption.ts";
import { Compatible, CompressionType, Extension, Incompatible } from "./spec.ts";

/** What the header of an image says, for people. */
export interface Qcow2Description {
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly compressionType: "zlib" | "zstd";
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly isDirty: boolean;
  readonly isCorrupt: boolean;
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  readonly dataFile: string | undefined;
  readonly dataFileRaw: boolean;
  readonly encryption: LuksHeader | undefined;
}

export function describeQcow2(header: Qcow2Header, file: BlockFile): Qcow2Description {
  return {
    version: header.version,
    clusterSize: 2 ** header.clusterBits,
    refcountBits: 2 ** header.refcountOrder,
    compressionType: header.compressionType === CompressionType.ZSTD ? "zstd" : "zlib",
    lazyRefcounts: (header.compatible & Compatible.LAZY_REFCOUNTS) !== 0n,
    extendedL2: (header.incompatible & Incompatible.EXTENDED_L2) !== 0n,
    isDirty: (header.incompatible & Incompatible.DIRTY) !== 0n,
    isCorrupt: (header.incompatible & Incompatible.CORRUPT) !== 0n,
    backingFile: header.backingFile,
    backingFormat: extensionText(header, Extension.BACKING_FORMAT),
    dataFile: extensionText(header, Extension.DATA_FILE),
    dataFileRaw: hasRawDataFile(header),
    encryption: luksRange(header) && decodeLuksHeader(readLuks(header, file), file.path),
  };
}
