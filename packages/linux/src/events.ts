import { close, read, write } from "./files.ts";
import { libc } from "./libc.ts";
import { RootedBuffer } from "./rooted-buffer.ts";
import { check } from "./system-call-error.ts";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

/** A counter of the kernel's that other parts of it can add to (eventfd(2)). Never blocks. */
export class EventFd {
  readonly fd: number;
  readonly #value = new RootedBuffer(8);

  constructor(initial = 0) {
    this.fd = check(libc().eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd", "an event counter");
  }

  signal(): void {
    this.#value.view.setBigUint64(0, 1n, true);
    write(this.fd, this.#value);
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

/** poll(2) of one descriptor: the events that came, 0 on timeout. Blocks the thread. */
export function poll(fd: number, events: number, timeoutMs: number): number {
  const entry = new RootedBuffer(8);
  entry.view.setInt32(0, fd, true);
  entry.view.setInt16(4, events, true);
  check(libc().poll(entry.address, 1, timeoutMs), "poll", `fd ${fd}`);
  return entry.view.getInt16(6, true);
}
