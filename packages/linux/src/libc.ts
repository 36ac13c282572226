import { createRequire } from "node:module";
import type * as Koffi from "koffi";

/** An address in this process. */
export type Address = bigint;

/** What `watch` waits for. */
export interface WatchedEvents {
  readonly readable?: boolean;
  readonly writable?: boolean;
}

/** Ends a `watch`. */
export interface WatchHandle {
  close(): void;
  unref(): void;
}

/** The functions of libc that this package calls, as koffi gives them. Pointers are addresses or typed arrays. */
export interface Libc {
  readonly open: (path: string, flags: number, mode: number) => number;
  readonly close: (fd: number) => number;
  readonly ioctl: (fd: number, request: number, argument: number) => number;
  readonly ioctlAt: (fd: number, request: number, argument: Address) => number;
  readonly mmap: (
    address: Address,
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ) => Address | number;
  readonly madvise: (address: Address, length: number, advice: number) => number;
  readonly memfd_create: (name: string, flags: number) => number;
  readonly ftruncate: (fd: number, length: number) => number;
  readonly eventfd: (initial: number, flags: number) => number;
  readonly poll: (fds: Address, count: number, timeoutMs: number) => number;
  readonly read: (fd: number, address: Address, length: number) => number;
  readonly write: (fd: number, address: Address, length: number) => number;
  readonly writev: (fd: number, vectors: Address, count: number) => number;
  readonly sendmsg: (fd: number, message: Address, flags: number) => number;
  readonly recvmsg: (fd: number, message: Address, flags: number) => number;
  readonly socketpair: (domain: number, type: number, protocol: number, fds: Address) => number;
  readonly socket: (domain: number, type: number, protocol: number) => number;
  readonly bind: (fd: number, address: Address, length: number) => number;
  readonly epoll_create1: (flags: number) => number;
  readonly epoll_ctl: (epoll: number, operation: number, fd: number, event: Address) => number;
  readonly listen: (fd: number, backlog: number) => number;
  readonly connect: (fd: number, address: Address, length: number) => number;
  readonly accept4: (fd: number, address: Address, length: Address, flags: number) => number;
  readonly fcntl: (fd: number, command: number, argument: number) => number;
  readonly fcntlAt: (fd: number, command: number, argument: Address) => number;
  readonly lseek: (fd: number, offset: number | bigint, whence: number) => number;
  readonly fallocate: (fd: number, mode: number, offset: number, length: number) => number;
  readonly openat: (fd: number, path: Address, flags: number, mode: number) => number;
  readonly mkdirat: (fd: number, path: Address, mode: number) => number;
  readonly mknodat: (fd: number, path: Address, mode: number, device: number) => number;
  readonly symlinkat: (target: Address, fd: number, path: Address) => number;
  readonly linkat: (fd: number, path: Address, newFd: number, newPath: Address, flags: number) => number;
  readonly unlinkat: (fd: number, path: Address, flags: number) => number;
  readonly renameat2: (fd: number, path: Address, newFd: number, newPath: Address, flags: number) => number;
  readonly readlinkat: (fd: number, path: Address, into: Address, length: number) => number;
  readonly statx: (fd: number, path: Address, flags: number, mask: number, into: Address) => number;
  readonly fchmodat: (fd: number, path: Address, mode: number, flags: number) => number;
  readonly fchownat: (fd: number, path: Address, uid: number, gid: number, flags: number) => number;
  readonly utimensat: (fd: number, path: Address, times: Address, flags: number) => number;
  readonly truncate: (path: Address, length: number) => number;
  readonly getdents64: (fd: number, into: Address, length: number) => number;
  readonly gettid: () => number;
  readonly tgkill: (tgid: number, tid: number, signal: number) => number;
  readonly sigaction: (signal: number, action: Address, old: Address) => number;
  readonly setns: (fd: number, type: number) => number;
  readonly flock: (fd: number, operation: number) => number;
  readonly prctl: (option: number, argument: Address) => number;
  /** `errno` of this thread's last failed call: ask at once. */
  readonly errno: () => number;
  readonly errnoNames: ReadonlyMap<number, string>;
  readonly address: (buffer: ArrayBufferView) => Address;
  /** Calls back in the event loop while `fd` is readable, or writable where that is asked. Hold on to the handle. */
  readonly watch: (fd: number, events: WatchedEvents, callback: () => void) => WatchHandle;
  readonly symbol: (name: string) => Address;
}

let loaded: Libc | undefined;

/** libc of this process, loaded at the first call: a machine without koffi's binary can import this package. */
export function libc(): Libc {
  return (loaded ??= load());
}

let isThere: boolean | undefined;

/** Whether this host has the system calls of this package: Linux on x86-64 with koffi's binary. */
export function hasSystemCalls(): boolean {
  return (isThere ??= process.platform === "linux" && process.arch === "x64" && canLoad());
}

function canLoad(): boolean {
  try {
    libc();
    return true;
  } catch {
    return false;
  }
}

function load(): Libc {
  const koffi = createRequire(import.meta.url)("koffi") as typeof Koffi;
  const library = koffi.load("libc.so.6");
  const declare = (prototype: string): never => library.func(prototype) as never;
  const errnoNames = new Map<number, string>();
  for (const [name, value] of Object.entries(koffi.os.errno as Readonly<Record<string, number>>)) {
    if (!errnoNames.has(value)) errnoNames.set(value, name);
  }
  return {
    open: declare("int open(const char *path, int flags, uint32_t mode)"),
    close: declare("int close(int fd)"),
    ioctl: declare("int ioctl(int fd, unsigned long request, unsigned long argument)"),
    ioctlAt: declare("int ioctl(int fd, unsigned long request, uintptr_t argument)"),
    mmap: library.func("mmap", "uintptr_t", ["uintptr_t", "size_t", "int", "int", "int", "int64_t"]) as never,
    madvise: library.func("madvise", "int", ["uintptr_t", "size_t", "int"]) as never,
    memfd_create: declare("int memfd_create(const char *name, unsigned int flags)"),
    ftruncate: declare("int ftruncate(int fd, int64_t length)"),
    eventfd: declare("int eventfd(unsigned int initial, int flags)"),
    poll: declare("int poll(uintptr_t fds, unsigned long count, int timeout)"),
    read: declare("int64_t read(int fd, uintptr_t address, size_t length)"),
    write: declare("int64_t write(int fd, uintptr_t address, size_t length)"),
    writev: declare("int64_t writev(int fd, uintptr_t vectors, int count)"),
    sendmsg: declare("int64_t sendmsg(int fd, uintptr_t message, int flags)"),
    recvmsg: declare("int64_t recvmsg(int fd, uintptr_t message, int flags)"),
    socketpair: declare("int socketpair(int domain, int type, int protocol, uintptr_t fds)"),
    socket: declare("int socket(int domain, int type, int protocol)"),
    bind: declare("int bind(int fd, uintptr_t address, uint32_t length)"),
    epoll_create1: declare("int epoll_create1(int flags)"),
    epoll_ctl: declare("int epoll_ctl(int epoll, int operation, int fd, uintptr_t event)"),
    listen: declare("int listen(int fd, int backlog)"),
    connect: declare("int connect(int fd, uintptr_t address, uint32_t length)"),
    accept4: declare("int accept4(int fd, uintptr_t address, uintptr_t length, int flags)"),
    fcntl: declare("int fcntl(int fd, int command, unsigned long argument)"),
    fcntlAt: declare("int fcntl(int fd, int command, uintptr_t argument)"),
    lseek: declare("int64_t lseek(int fd, int64_t offset, int whence)"),
    fallocate: declare("int fallocate(int fd, int mode, int64_t offset, int64_t length)"),
    openat: declare("int openat(int fd, uintptr_t path, int flags, uint32_t mode)"),
    mkdirat: declare("int mkdirat(int fd, uintptr_t path, uint32_t mode)"),
    mknodat: declare("int mknodat(int fd, uintptr_t path, uint32_t mode, uint64_t device)"),
    symlinkat: declare("int symlinkat(uintptr_t target, int fd, uintptr_t path)"),
    linkat: declare("int linkat(int fd, uintptr_t path, int newFd, uintptr_t newPath, int flags)"),
    unlinkat: declare("int unlinkat(int fd, uintptr_t path, int flags)"),
    renameat2: declare("int renameat2(int fd, uintptr_t path, int newFd, uintptr_t newPath, uint32_t flags)"),
    readlinkat: declare("int64_t readlinkat(int fd, uintptr_t path, uintptr_t into, size_t length)"),
    statx: declare("int statx(int fd, uintptr_t path, int flags, uint32_t mask, uintptr_t into)"),
    fchmodat: declare("int fchmodat(int fd, uintptr_t path, uint32_t mode, int flags)"),
    fchownat: declare("int fchownat(int fd, uintptr_t path, uint32_t uid, uint32_t gid, int flags)"),
    utimensat: declare("int utimensat(int fd, uintptr_t path, uintptr_t times, int flags)"),
    truncate: declare("int truncate(uintptr_t path, int64_t length)"),
    getdents64: declare("int64_t getdents64(int fd, uintptr_t into, size_t length)"),
    gettid: declare("int gettid()"),
    tgkill: declare("int tgkill(int tgid, int tid, int signal)"),
    sigaction: declare("int sigaction(int signal, uintptr_t action, uintptr_t old)"),
    setns: declare("int setns(int fd, int type)"),
    flock: declare("int flock(int fd, int operation)"),
    prctl: declare("int prctl(int option, uintptr_t argument)"),
    errno: () => koffi.errno(),
    errnoNames,
    address: (buffer) => koffi.address(buffer),
    watch: (fd, events, callback) => koffi.node.poll(fd, events, callback),
    symbol: (name) => library.symbol(name) as Address,
  };
}
