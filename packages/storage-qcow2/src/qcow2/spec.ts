/** Numbers of the qcow2 format (QEMU docs/interop/qcow2). */

export const QCOW2_MAGIC = 0x514649fb;

export const V2_HEADER_LENGTH = 72;
export const V3_HEADER_LENGTH = 104;

export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
/** Extended L2 entries need 32 subclusters of at least 512 bytes. */
export const MIN_EXTENDED_L2_CLUSTER_BITS = 14;

/** QEMU's limits, kept so that a hostile header cannot make us allocate more. */
export const MAX_L1_BYTES: number = 32 << 20;
export const MAX_REFCOUNT_TABLE_BYTES: number = 8 << 20;
export const MAX_SNAPSHOTS = 65536;
export const MAX_SNAPSHOT_TABLE_BYTES: number = 64 << 20;
export const MAX_SNAPSHOT_EXTRA_BYTES = 1024;
/** The header of LUKS with its key slots: those of QEMU take 2 MiB. */
export const MAX_LUKS_BYTES: number = 16 << 20;
export const MAX_BACKING_NAME_BYTES = 1023;

export const Incompatible = {
  DIRTY: 1n,
  CORRUPT: 2n,
  DATA_FILE: 4n,
  COMPRESSION_TYPE: 8n,
  EXTENDED_L2: 16n,
} as const;

export const Compatible = { LAZY_REFCOUNTS: 1n } as const;

export const Autoclear = { BITMAPS: 1n, RAW_DATA_FILE: 2n } as const;

export const Extension = {
  END: 0,
  BACKING_FORMAT: 0xe2792aca,
  FEATURE_NAMES: 0x6803f857,
  BITMAPS: 0x23852875,
  CRYPTO: 0x0537be77,
  DATA_FILE: 0x44415441,
  /** Ours: bytes to be skipped, while the extensions stand elsewhere for a moment. */
  SKIPPED: 0x6e62736b,
} as const;

/** Names of feature bits by type (0 incompatible, 1 compatible, 2 autoclear) and bit number. */
export const FEATURE_NAMES: readonly (readonly [type: number, bit: number, name: string])[] = [
  [0, 0, "dirty bit"],
  [0, 1, "corrupt bit"],
  [0, 2, "external data file"],
  [0, 3, "compression type"],
  [0, 4, "extended L2 entries"],
  [1, 0, "lazy refcounts"],
  [2, 0, "bitmaps"],
  [2, 1, "raw external data"],
];

export const CryptMethod = { NONE: 0, AES: 1, LUKS: 2 } as const;

export const CompressionType = { DEFLATE: 0, ZSTD: 1 } as const;

/** Flags in the upper half of an L1 or L2 entry. */
export const COPIED_HI = 0x80000000;
export const COMPRESSED_HI = 0x40000000;
/** Upper half of the offset field, bits 32 to 55. */
export const OFFSET_HI = 0x00ffffff;
/** Lower half of the offset field, bits 9 to 31. */
export const OFFSET_LO = 0xfffffe00;
/** Lower half of an L2 entry: the cluster reads as zeroes. */
export const ZERO_LO = 1;
/** Bits of an L2 entry that must be zero: 56 to 61, 1 to 8. */
export const L2_RESERVED_HI = 0x3f000000;

export const SUBCLUSTERS = 32;
