import { readFileSync } from "node:fs";
import { libc } from "../libc.ts";
import { RootedBuffer } from "../rooted-buffer.ts";
import { Errno } from "./errno.ts";

const AT_FDCWD = -100;
const AT_REMOVEDIR = 0x200;
const AT_SYMLINK_FOLLOW = 0x400;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;
const STATX_BYTES = 256;
const UTIME_NOW = 0x3fff_ffff;
const UTIME_OMIT = 0x3fff_fffe;
/** For chown(2): leave it as it is. */
const KEEP = 0xffff_ffff;
const PATH_MAX = 4096;
/** Descriptors of this process that no tree takes, or a quarter where it has few. */
const SPARE_FDS = 256;
const PROC = new TextEncoder().encode("/proc/self/fd/");

/** Flags of open(2), x86-64. */
export const Open = {
  ACCESS: 0o3,
  RDONLY: 0,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DSYNC: 0o10000,
  DIRECT: 0o40000,
  LARGEFILE: 0o100000,
  DIRECTORY: 0o200000,
  NOFOLLOW: 0o400000,
  NOATIME: 0o1000000,
  CLOEXEC: 0o2000000,
  SYNC: 0o4010000,
  PATH: 0o10000000,
} as const;

/** `st_mode`: the file's type. */
export const FileType = {
  MASK: 0o170000,
  FIFO: 0o010000,
  DIRECTORY: 0o040000,
  REGULAR: 0o100000,
  LINK: 0o120000,
  SOCKET: 0o140000,
} as const;

/** A time to set: seconds and nanoseconds, now, or the one that is there. */
export type SetTime = "now" | { readonly seconds: number; readonly nanoseconds: number } | undefined;

const result = (value: number): number => (value < 0 ? -libc().errno() : value);

/**
 * The system calls that work on one name inside an open directory, or on an open file itself. Each answers with a
 * negative errno where it fails; names and structures pass through buffers of this object. Whatever a guest opens, this
 * process keeps some descriptors for the rest of what it does.
 */
export class AtCalls {
  readonly #name = new RootedBuffer(PATH_MAX);
  readonly #other = new RootedBuffer(PATH_MAX);
  readonly #proc = new RootedBuffer(32);
  readonly #empty = new RootedBuffer(1);
  readonly #times = new RootedBuffer(32);
  /** What `stat` filled: `struct statx`. */
  readonly statx: RootedBuffer = new RootedBuffer(STATX_BYTES);
  /** The kernel gives the lowest number that is free: those from here on are not a guest's. */
  readonly #endOfFds: number;

  /** @param mostFds descriptors this process can have */
  constructor(mostFds: number = fdLimit()) {
    this.#proc.bytes.set(PROC);
    this.#endOfFds = mostFds - Math.min(SPARE_FDS, Math.floor(mostFds / 4));
  }

  openAt(directory: number, name: Uint8Array, flags: number, mode = 0): number {
    const path = terminated(this.#name, name);
    return this.#spared(path.lend((at) => libc().openat(directory, at, flags | Open.CLOEXEC, mode)));
  }

  /** Opens anew what is open already, whatever became of its name. */
  reopen(fd: number, flags: number): number {
    const path = this.#procPath(fd);
    return this.#spared(path.lend((at) => libc().openat(AT_FDCWD, at, flags | Open.CLOEXEC, 0)));
  }

  stat(fd: number): number {
    return result(
      this.statx.lend((into) =>
        libc().statx(fd, this.#empty.address, AT_EMPTY_PATH, STATX_BASIC_STATS, into),
      ),
    );
  }

  makeDirectory(directory: number, name: Uint8Array, mode: number): number {
    return result(terminated(this.#name, name).lend((at) => libc().mkdirat(directory, at, mode)));
  }

  makeNode(directory: number, name: Uint8Array, mode: number): number {
    return result(terminated(this.#name, name).lend((at) => libc().mknodat(directory, at, mode, 0)));
  }

  makeSymbolicLink(target: Uint8Array, directory: number, name: Uint8Array): number {
    const text = terminated(this.#other, target);
    return result(terminated(this.#name, name).lend((at) => libc().symlinkat(text.address, directory, at)));
  }

  makeLink(fd: number, directory: number, name: Uint8Array): number {
    const from = this.#procPath(fd);
    return result(
      terminated(this.#name, name).lend((at) =>
        libc().linkat(AT_FDCWD, from.address, directory, at, AT_SYMLINK_FOLLOW),
      ),
    );
  }

  unlink(directory: number, name: Uint8Array, isDirectory: boolean): number {
    return result(
      terminated(this.#name, name).lend((at) =>
        libc().unlinkat(directory, at, isDirectory ? AT_REMOVEDIR : 0),
      ),
    );
  }

  rename(directory: number, name: Uint8Array, to: number, newName: Uint8Array, flags: number): number {
    const target = terminated(this.#other, newName);
    return result(
      terminated(this.#name, name).lend((at) => libc().renameat2(directory, at, to, target.address, flags)),
    );
  }

  /** A copy of a symbolic link's target. */
  readLink(fd: number): Uint8Array | number {
    const into = this.#other;
    const length = result(
      into.lend((at) => libc().readlinkat(fd, this.#empty.address, at, into.bytes.length)),
    );
    return length < 0 ? length : into.bytes.slice(0, length);
  }

  /** Where an open file is now, from the root of the host. */
  pathOf(fd: number): Uint8Array | number {
    const into = this.#other;
    const length = result(
      into.lend((at) => libc().readlinkat(AT_FDCWD, this.#procPath(fd).address, at, into.bytes.length)),
    );
    return length < 0 ? length : into.bytes.slice(0, length);
  }

  changeMode(fd: number, mode: number): number {
    return result(this.#procPath(fd).lend((at) => libc().fchmodat(AT_FDCWD, at, mode, 0)));
  }

  changeOwner(fd: number, uid: number | undefined, gid: number | undefined): number {
    return result(libc().fchownat(fd, this.#empty.address, uid ?? KEEP, gid ?? KEEP, AT_EMPTY_PATH));
  }

  truncate(fd: number, size: number): number {
    return result(this.#procPath(fd).lend((at) => libc().truncate(at, size)));
  }

  truncateOpen(fd: number, size: number): number {
    return result(libc().ftruncate(fd, size));
  }

  setTimes(fd: number, atime: SetTime, mtime: SetTime): number {
    const { view } = this.#times;
    setTime(view, 0, atime);
    setTime(view, 16, mtime);
    return result(this.#times.lend((at) => libc().utimensat(fd, this.#empty.address, at, AT_EMPTY_PATH)));
  }

  /** `struct linux_dirent64`s; 0 bytes at the end. */
  readEntries(fd: number, into: RootedBuffer): number {
    return result(into.lend((at) => libc().getdents64(fd, at, into.bytes.length)));
  }

  /** lseek(2) to a position of 64 bits. */
  seekTo(fd: number, low: number, high: number): number {
    if (high === 0) return result(libc().lseek(fd, low, 0));
    const position = BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low)); // a hash of the file system's
    return libc().lseek(fd, position, 0) === -1 ? -libc().errno() : 0;
  }

  seek(fd: number, offset: number, whence: number): number {
    return result(libc().lseek(fd, offset, whence));
  }

  allocate(fd: number, mode: number, offset: number, length: number): number {
    return result(libc().fallocate(fd, mode, offset, length));
  }

  close(fd: number): void {
    libc().close(fd);
  }

  /** What open(2) answered; ENFILE instead of one of the last descriptors. */
  #spared(fd: number): number {
    if (fd < this.#endOfFds) return result(fd);
    libc().close(fd);
    return -Errno.ENFILE;
  }

  /** Leads to the open file itself: the kernel takes no step through names. */
  #procPath(fd: number): RootedBuffer {
    const { bytes } = this.#proc;
    let digits = 1;
    for (let rest = fd; rest >= 10; rest = Math.floor(rest / 10)) digits++;
    let rest = fd;
    for (let at = PROC.length + digits - 1; at >= PROC.length; at--) {
      bytes[at] = 0x30 + (rest % 10);
      rest = Math.floor(rest / 10);
    }
    bytes[PROC.length + digits] = 0;
    return this.#proc;
  }
}

/** RLIMIT_NOFILE, the soft one: getrlimit(2). */
function fdLimit(): number {
  const line = /^Max open files +([0-9]+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
  return line?.[1] === undefined ? Number.POSITIVE_INFINITY : Number(line[1]);
}

function terminated(buffer: RootedBuffer, text: Uint8Array): RootedBuffer {
  buffer.bytes.set(text.length < buffer.bytes.length ? text : text.subarray(0, buffer.bytes.length - 1));
  buffer.bytes[Math.min(text.length, buffer.bytes.length - 1)] = 0;
  return buffer;
}

function setTime(view: DataView, at: number, time: SetTime): void {
  const { seconds, nanoseconds } =
    time === "now"
      ? { seconds: 0, nanoseconds: UTIME_NOW }
      : (time ?? { seconds: 0, nanoseconds: UTIME_OMIT });
  view.setUint32(at, seconds >>> 0, true);
  view.setInt32(at + 4, Math.floor(seconds / 2 ** 32), true);
  view.setUint32(at + 8, nanoseconds, true);
  view.setUint32(at + 12, 0, true);
}
