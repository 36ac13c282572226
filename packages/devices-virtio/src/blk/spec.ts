/** Block device. Names and numbers: virtio 1.3 §5.2. */

export const Feature = {
  SIZE_MAX: 1,
  SEG_MAX: 2,
  GEOMETRY: 4,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
} as const;

/** struct virtio_blk_config (§5.2.4). */
export const Config = {
  CAPACITY: 0,
  SIZE_MAX: 8,
  SEG_MAX: 12,
  BLK_SIZE: 20,
  PHYSICAL_BLOCK_EXP: 24,
  ALIGNMENT_OFFSET: 25,
  MIN_IO_SIZE: 26,
  OPT_IO_SIZE: 28,
  WRITEBACK: 32,
  NUM_QUEUES: 34,
  MAX_DISCARD_SECTORS: 36,
  MAX_DISCARD_SEG: 40,
  DISCARD_SECTOR_ALIGNMENT: 44,
  MAX_WRITE_ZEROES_SECTORS: 48,
  MAX_WRITE_ZEROES_SEG: 52,
  WRITE_ZEROES_MAY_UNMAP: 56,
  LENGTH: 60,
} as const;

/** Request types (§5.2.6). */
export const RequestType = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 } as const;

/** The device-readable header: type, reserved, sector. */
export const Header = { TYPE: 0, SECTOR: 8, LENGTH: 16 } as const;

export const RequestStatus = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

/** A segment of DISCARD and WRITE_ZEROES. */
export const Range = { SECTOR: 0, NUM_SECTORS: 8, FLAGS: 12, LENGTH: 16, UNMAP: 0x1 } as const;

export const SECTOR = 512;
export const ID_LENGTH = 20;
/** Data segments of one request. */
export const SEG_MAX = 254;
/** Largest discard or write-zeroes segment: 1 GiB. */
export const MAX_RANGE_SECTORS = 0x20_0000;
export const MAX_RANGES = 32;
