import { libc } from "./libc.ts";
import type { RootedBuffer } from "./rooted-buffer.ts";
import { check, errnoName, SystemCallError } from "./system-call-error.ts";

/** Flags of open(2), x86-64. */
export const OpenFlag = {
  O_RDONLY: 0,
  O_WRONLY: 1,
  O_RDWR: 2,
  O_CREAT: 0o100,
  O_NONBLOCK: 0o4000,
  O_DIRECTORY: 0o200000,
  O_NOFOLLOW: 0o400000,
  O_CLOEXEC: 0o2000000,
  O_PATH: 0o10000000,
} as const;

/** open(2). Throws `SystemCallError` naming the path. */
export function open(path: string, flags: number, mode = 0): number {
  return check(libc().open(path, flags | OpenFlag.O_CLOEXEC, mode), "open", path);
}

/** close(2). Throws `SystemCallError`: closing what is not open is a mistake of the caller. */
export function close(fd: number): void {
  check(libc().close(fd), "close", `fd ${fd}`);
}

/** A descriptor with one owner: once it is closed, nobody reaches what the kernel gives its number to next. */
export class OwnedDescriptor {
  #fd: number | undefined;
  readonly #what: string;

  /** @param what names it in errors */
  constructor(fd: number, what: string) {
    this.#fd = fd;
    this.#what = what;
  }

  /** Its number. Throws `SystemCallError` once it is closed. */
  get fd(): number {
    if (this.#fd === undefined) throw new SystemCallError("ioctl", "EBADF", `${this.#what} is closed`);
    return this.#fd;
  }

  close(): void {
    const { fd } = this;
    this.#fd = undefined;
    close(fd);
  }
}

/** ioctl(2) with an integer argument. Throws `SystemCallError`. @param what names the request in the error */
export function ioctl(fd: number, request: number, argument: number, what: string): number {
  return check(libc().ioctl(fd, request, argument), "ioctl", what);
}

/** ioctl(2) with a structure. Throws `SystemCallError`. */
export function ioctlBuffer(fd: number, request: number, argument: RootedBuffer, what: string): number {
  return check(
    argument.lend((address) => libc().ioctlAt(fd, request, address)),
    "ioctl",
    what,
  );
}

/** ioctl(2) on the hot path: −1 on failure, and `errnoName()` says why. */
export function ioctlUnchecked(fd: number, request: number, argument: number): number {
  return libc().ioctl(fd, request, argument);
}

const F_GETFL = 3;
const F_SETFL = 4;

/** Makes calls on the descriptor fail with EAGAIN where they would wait (fcntl(2)), for all who share its file. */
export function setNonBlocking(fd: number): void {
  const flags = check(libc().fcntl(fd, F_GETFL, 0), "fcntl", `flags of fd ${fd}`);
  check(libc().fcntl(fd, F_SETFL, flags | OpenFlag.O_NONBLOCK), "fcntl", `flags of fd ${fd}`);
}

/** ftruncate(2). @param length bytes */
export function ftruncate(fd: number, length: number): void {
  check(libc().ftruncate(fd, length), "ftruncate", `fd ${fd}`);
}

/** read(2) into a buffer: bytes read, 0 at the end, `undefined` where nothing is there yet (EAGAIN). */
export function read(fd: number, into: RootedBuffer): number | undefined {
  return unlessAgain(
    into.lend((address) => libc().read(fd, address, into.bytes.length)),
    "read",
    fd,
  );
}

/** write(2) of a buffer's first `length` bytes: bytes written, `undefined` where it would block (EAGAIN). */
export function write(
  fd: number,
  from: RootedBuffer,
  length: number = from.bytes.length,
): number | undefined {
  return unlessAgain(
    from.lend((address) => libc().write(fd, address, length)),
    "write",
    fd,
  );
}

/** `undefined` for EAGAIN; throws `SystemCallError` for any other failure. */
export function unlessAgain(result: number, syscall: string, fd: number): number | undefined {
  if (result >= 0) return result;
  const errno = errnoName();
  if (errno === "EAGAIN" || errno === "EWOULDBLOCK") return undefined;
  throw new SystemCallError(syscall, errno, `fd ${fd}`);
}
