import { libc } from "./libc.ts";

/** A system call that failed. Its `code` is the one Northbridge gives every failure of the host. */
export class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  readonly code = "NB_HOST";
  /** `ioctl`, `mmap` … */
  readonly syscall: string;
  /** `ENOENT`, `EINTR` …; the number where the name is unknown. */
  readonly errno: string;

  constructor(syscall: string, errno: string, what: string) {
    super(`${what}: ${syscall} failed with ${errno}`);
    this.syscall = syscall;
    this.errno = errno;
  }
}

/** Name of this thread's current `errno` (errno(3)). */
export function errnoName(): string {
  const errno = libc().errno();
  return libc().errnoNames.get(errno) ?? errno.toString();
}

/** Passes the result of a system call on. Throws `SystemCallError` where it is negative. */
export function check(result: number, syscall: string, what: string): number {
  if (result < 0) throw new SystemCallError(syscall, errnoName(), what);
  return result;
}

/** This thread's current `errno`, as the kernel numbers it. */
export function errnoNumber(): number {
  return libc().errno();
}

/** Name of a number of errno(3). */
export function nameErrno(errno: number): string {
  return libc().errnoNames.get(errno) ?? errno.toString();
}
