import { close, open, OpenFlag } from "./files.ts";
import { libc } from "./libc.ts";
import { check, SystemCallError } from "./system-call-error.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;

/** How long somebody's lock is waited for, and how long between two looks. */
const PATIENCE_MS = 5000;
const LOOK_MS = 1;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/**
 * The one lock of a directory (flock(2)), for processes that agree on it. It goes with the process that holds it, whatever
 * ends that, and holds between containers that share the directory. NFS has none for directories.
 */
export class DirectoryLock {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Throws `SystemCallError`: with `EAGAIN` where somebody has it. */
  static take(directory: string): DirectoryLock {
    const fd = open(directory, OpenFlag.O_RDONLY | OpenFlag.O_DIRECTORY);
    try {
      check(libc().flock(fd, LOCK_EX | LOCK_NB), "flock", directory);
      return new DirectoryLock(fd);
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  /**
   * As `take`, and waits for who has it, with the thread: for locks that are held for a moment. Throws
   * `SystemCallError` where one is held longer.
   */
  static wait(directory: string): DirectoryLock {
    const patienceEndsMs = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        return DirectoryLock.take(directory);
      } catch (error) {
        const isTaken = error instanceof SystemCallError && error.errno === "EAGAIN";
        if (!isTaken || performance.now() >= patienceEndsMs) throw error;
      }
      Atomics.wait(sleeper, 0, 0, LOOK_MS);
    }
  }

  release(): void {
    close(this.#fd);
  }
}
