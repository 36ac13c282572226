/** File system device (virtio 1.3 §5.11) and the FUSE protocol it carries (linux/include/uapi/linux/fuse.h, 7.38). */

/** struct virtio_fs_config (§5.11.4). */
export const Config = { TAG: 0, NUM_REQUEST_QUEUES: 36, LENGTH: 40 } as const;
export const TAG_LENGTH = 36;
/** Queue 0 carries what must not wait: FORGET, INTERRUPT (§5.11.6). */
export const HIPRIO_QUEUE = 0;

/** Protocol versions: the one it speaks, and the oldest kernel's it answers. */
export const Version = { MAJOR: 7, MINOR: 38, OLDEST_MINOR: 31 } as const;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
} as const;

/** struct fuse_in_header. */
export const InHeader = { OPCODE: 4, UNIQUE: 8, NODE: 16, UID: 24, GID: 28, LENGTH: 40 } as const;
/** struct fuse_out_header. */
export const OutHeader = { LEN: 0, ERROR: 4, UNIQUE: 8, LENGTH: 16 } as const;

/** struct fuse_init_in and fuse_init_out. */
export const InitIn = { MAJOR: 0, MINOR: 4, MAX_READAHEAD: 8, FLAGS: 12, LENGTH: 16 } as const;
export const InitOut = {
  MAJOR: 0,
  MINOR: 4,
  MAX_READAHEAD: 8,
  FLAGS: 12,
  MAX_BACKGROUND: 16,
  CONGESTION_THRESHOLD: 18,
  MAX_WRITE: 20,
  TIME_GRAN: 24,
  MAX_PAGES: 28,
  LENGTH: 64,
} as const;

/** Flags of INIT. */
export const Init = {
  ASYNC_READ: 0x1,
  ATOMIC_O_TRUNC: 0x8,
  BIG_WRITES: 0x20,
  AUTO_INVAL_DATA: 0x1000,
  DO_READDIRPLUS: 0x2000,
  READDIRPLUS_AUTO: 0x4000,
  ASYNC_DIO: 0x8000,
  PARALLEL_DIROPS: 0x40000,
  MAX_PAGES: 0x400000,
  CACHE_SYMLINKS: 0x800000,
} as const;

/** struct fuse_attr. */
export const Attr = {
  INO: 0,
  SIZE: 8,
  BLOCKS: 16,
  ATIME: 24,
  MTIME: 32,
  CTIME: 40,
  ATIMENSEC: 48,
  MTIMENSEC: 52,
  CTIMENSEC: 56,
  MODE: 60,
  NLINK: 64,
  UID: 68,
  GID: 72,
  BLKSIZE: 80,
  LENGTH: 88,
} as const;

/** struct fuse_entry_out. */
export const EntryOut = {
  NODE: 0,
  ENTRY_VALID: 16,
  ATTR_VALID: 24,
  ENTRY_VALID_NSEC: 32,
  ATTR_VALID_NSEC: 36,
  ATTR: 40,
  LENGTH: 128,
} as const;

/** struct fuse_attr_out. */
export const AttrOut = { VALID: 0, VALID_NSEC: 8, ATTR: 16, LENGTH: 104 } as const;

/** struct fuse_setattr_in. */
export const SetattrIn = {
  VALID: 0,
  FH: 8,
  SIZE: 16,
  ATIME: 32,
  MTIME: 40,
  ATIMENSEC: 56,
  MTIMENSEC: 60,
  MODE: 68,
  UID: 76,
  GID: 80,
  LENGTH: 88,
} as const;

/** Bits of `valid` in fuse_setattr_in. */
export const Fattr = {
  MODE: 0x1,
  UID: 0x2,
  GID: 0x4,
  SIZE: 0x8,
  ATIME: 0x10,
  MTIME: 0x20,
  FH: 0x40,
  ATIME_NOW: 0x80,
  MTIME_NOW: 0x100,
} as const;

/** Sizes of the other arguments; names follow them. */
export const ArgLength = {
  MKNOD: 16,
  MKDIR: 8,
  RENAME: 8,
  RENAME2: 16,
  LINK: 8,
  CREATE: 16,
  READ: 40,
  WRITE: 40,
  BATCH_FORGET: 8,
} as const;

/** struct fuse_open_out. */
export const OpenOut = { FH: 0, OPEN_FLAGS: 8, LENGTH: 16 } as const;
export const FOPEN_KEEP_CACHE = 0x2;
export const FSYNC_FDATASYNC = 0x1;

/** struct fuse_dirent; the name follows, filled up to 8 bytes. */
export const Dirent = { INO: 0, OFF: 8, NAMELEN: 16, TYPE: 20, NAME: 24, ALIGN: 8 } as const;

/** struct fuse_kstatfs. */
export const Statfs = {
  BLOCKS: 0,
  BFREE: 8,
  BAVAIL: 16,
  FILES: 24,
  FFREE: 32,
  BSIZE: 40,
  NAMELEN: 44,
  FRSIZE: 48,
  LENGTH: 80,
} as const;

/** Errnos of Linux that the server answers with by itself. */
export const Errno = { EIO: 5, EINVAL: 22, ENOSYS: 38, EPROTO: 71 } as const;

export const MAX_PAGES = 256;
export const MAX_WRITE: number = MAX_PAGES * 4096;
