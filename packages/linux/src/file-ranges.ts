import { libc } from "./libc.ts";
import { RootedBuffer } from "./rooted-buffer.ts";
import { check, errnoName, SystemCallError } from "./system-call-error.ts";

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;

/** `l_type` of fcntl(2). */
export const RangeLock = { F_RDLCK: 0, F_WRLCK: 1, F_UNLCK: 2 } as const;

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** Modes of fallocate(2). */
export const FallocateMode = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 0x10 } as const;

/** `struct flock` of x86-64: type at 0, whence at 2, start at 8, length at 16, pid at 24. */
function flock(type: number, start: number, length: number): RootedBuffer {
  const lock = new RootedBuffer(32);
  lock.view.setInt16(0, type, true);
  lock.view.setBigInt64(8, BigInt(start), true);
  lock.view.setBigInt64(16, BigInt(length), true);
  return lock;
}

/**
 * Sets or drops a lock that belongs to the open file description (fcntl(2), `F_OFD_SETLK`). False: somebody else's
 * lock is in the way.
 * @param type one of {@link RangeLock}
 */
export function setRangeLock(fd: number, type: number, start: number, length: number): boolean {
  const lock = flock(type, start, length);
  const result = lock.lend((address) => libc().fcntlAt(fd, F_OFD_SETLK, address));
  if (result >= 0) return true;
  const errno = errnoName();
  if (errno === "EAGAIN" || errno === "EACCES" || errno === "EWOULDBLOCK") return false;
  throw new SystemCallError("fcntl", errno, `fd ${fd}`);
}

/** True where a lock of `type` could be had (fcntl(2), `F_OFD_GETLK`). */
export function canLockRange(fd: number, type: number, start: number, length: number): boolean {
  const lock = flock(type, start, length);
  check(
    lock.lend((address) => libc().fcntlAt(fd, F_OFD_GETLK, address)),
    "fcntl",
    `fd ${fd}`,
  );
  return lock.view.getInt16(0, true) === RangeLock.F_UNLCK;
}

/** The first byte of data at or after `offset`, or `undefined` where none follows (lseek(2), `SEEK_DATA`). */
export function seekData(fd: number, offset: number): number | undefined {
  return seek(fd, offset, SEEK_DATA);
}

/** The first byte of a hole at or after `offset`; a hole is at the end too. `undefined` behind the end. */
export function seekHole(fd: number, offset: number): number | undefined {
  return seek(fd, offset, SEEK_HOLE);
}

function seek(fd: number, offset: number, whence: number): number | undefined {
  const at = libc().lseek(fd, offset, whence);
  if (at >= 0) return at;
  const errno = errnoName();
  if (errno === "ENXIO") return undefined;
  throw new SystemCallError("lseek", errno, `fd ${fd}`);
}

/** fallocate(2). False where the file system cannot do it. */
export function fallocate(fd: number, mode: number, offset: number, length: number): boolean {
  if (libc().fallocate(fd, mode, offset, length) === 0) return true;
  const errno = errnoName();
  if (errno === "EOPNOTSUPP" || errno === "ENOTSUP" || errno === "ENODEV" || errno === "ENOSYS") return false;
  throw new SystemCallError("fallocate", errno, `fd ${fd}`);
}
