import { readlinkSync } from "node:fs";
import { close, read, setNonBlocking, write } from "./files.ts";
import { libc, type WatchedEvents, type WatchHandle } from "./libc.ts";
import { RootedBuffer } from "./rooted-buffer.ts";
import { check, SystemCallError } from "./system-call-error.ts";

const F_DUPFD_CLOEXEC = 1030;
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

/** A counter of the kernel's that other parts of it can add to (eventfd(2)). Never blocks. */
export class EventFd {
  readonly fd: number;
  readonly #value = new RootedBuffer(8);
  readonly #one = new RootedBuffer(8);

  /** @param adopted for `adopt`: the counter there is already */
  constructor(initial = 0, adopted?: number) {
    this.fd =
      adopted ?? check(libc().eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd", "an event counter");
    this.#one.bytes[0] = 1;
  }

  /**
   * Takes over a descriptor that came from another process. Throws `SystemCallError`, with the descriptor left open,
   * where it is no eventfd: reading anything else could block.
   */
  static adopt(fd: number): EventFd {
    if (readlinkSync(`/proc/self/fd/${fd}`) !== "anon_inode:[eventfd]") {
      throw new SystemCallError("eventfd", "EINVAL", `fd ${fd}: not an event counter`);
    }
    setNonBlocking(fd);
    return new EventFd(0, fd);
  }

  signal(): void {
    write(this.fd, this.#one);
  }

  /** What was added since the last call. */
  drain(): bigint {
    return read(this.fd, this.#value) === undefined ? 0n : this.#value.view.getBigUint64(0, true);
  }

  close(): void {
    close(this.fd);
  }
}

/** Events of poll(2). */
export const PollEvent = { POLLIN: 1, POLLOUT: 4, POLLERR: 8, POLLHUP: 16, POLLNVAL: 32 } as const;

/** Calls `ready` in the event loop for as long as the descriptor is readable, or writable where that is asked. */
export class FdWatch {
  readonly #handle: WatchHandle;
  /** A second descriptor of the same file: the event loop waits for one only once. */
  readonly #duplicate: number | undefined;
  #isClosed = false;

  /** @param fd non-blocking; stays open until the watch is closed. Throws where it cannot be waited for. */
  constructor(fd: number, ready: () => void, events: WatchedEvents = { readable: true }) {
    this.#duplicate =
      events.writable === true
        ? check(libc().fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl", `a duplicate of fd ${fd}`)
        : undefined;
    try {
      this.#handle = libc().watch(this.#duplicate ?? fd, events, () => {
        if (this.#isClosed) return;
        try {
          ready();
        } catch (error) {
          // Thrown into the native loop it would come out of whatever call of the system comes next.
          queueMicrotask(() => {
            throw error;
          });
        }
      });
    } catch (error) {
      if (this.#duplicate !== undefined) close(this.#duplicate);
      throw error;
    }
    watches.add(this);
  }

  /** Lets the process end although this waits. */
  unref(): void {
    this.#handle.unref();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    watches.delete(this);
    this.#handle.close();
    if (this.#duplicate !== undefined) close(this.#duplicate);
  }
}

/** A collected handle stops waiting without a word: those that wait are kept. */
const watches = new Set<FdWatch>();

/** poll(2) of one descriptor: the events that came, 0 on timeout. Blocks the thread. */
export function poll(fd: number, events: number, timeoutMs: number): number {
  const entry = new RootedBuffer(8);
  entry.view.setInt32(0, fd, true);
  entry.view.setInt16(4, events, true);
  check(libc().poll(entry.address, 1, timeoutMs), "poll", `fd ${fd}`);
  return entry.view.getInt16(6, true);
}
