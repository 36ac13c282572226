import { lstatSync, unlinkSync } from "node:fs";
import { acceptUnix, close, connectUnix, FdWatch, listenUnix, SystemCallError } from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";

/** accept(2): this process, or the system, has no room for another connection. */
const EXHAUSTED: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);
const RETRY_MS = 1000;

/** A Unix socket that connections come to, one after the other: the next one waits until the last has ended. */
export class Listener {
  readonly #path: string;
  readonly #fd: number;
  readonly #serve: (fd: number) => Promise<void>;
  /** Device and inode of the socket, so that nobody else's is removed at the end. */
  readonly #identity: string;
  #watch: FdWatch | undefined;
  #later: NodeJS.Timeout | undefined;
  #isClosed = false;

  /**
   * Listens at `path`. A socket that is there and that nobody listens at any more is removed. Throws `NB_CONFIG` where
   * something else is there or somebody listens, `NB_HOST` where the host refuses.
   * @param serve resolves when the connection has ended
   */
  constructor(path: string, serve: (fd: number) => Promise<void>) {
    this.#path = path;
    this.#serve = serve;
    removeStale(path);
    try {
      this.#fd = listenUnix(path);
    } catch (cause) {
      throw new NorthbridgeError("NB_HOST", `cannot listen at ${reasonOf(cause)}`, { cause });
    }
    this.#identity = identityOf(path) ?? "";
    this.#listen();
  }

  /** Takes no more connections and removes the socket. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#watch?.close();
    clearTimeout(this.#later);
    close(this.#fd);
    if (identityOf(this.#path) === this.#identity) unlinkSync(this.#path);
  }

  #listen(): void {
    if (this.#isClosed) return;
    this.#watch = new FdWatch(this.#fd, () => {
      this.#accept();
    });
  }

  #accept(): void {
    let fd: number | undefined;
    try {
      fd = acceptUnix(this.#fd);
    } catch (error) {
      // It was gone before it was there.
      if (error instanceof SystemCallError && error.errno === "ECONNABORTED") return;
      if (!(error instanceof SystemCallError && EXHAUSTED.has(error.errno))) throw error;
      // It stays in the queue of those that wait: looked at again when there may be a descriptor for it.
      this.#watch?.close();
      this.#later = setTimeout(() => {
        this.#listen();
      }, RETRY_MS);
      return;
    }
    if (fd === undefined) return;
    this.#watch?.close();
    void this.#serve(fd).finally(() => {
      this.#listen();
    });
  }
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function identityOf(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}

function removeStale(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: expected nothing or a socket nobody uses, found a file`,
    );
  }
  let fd: number;
  try {
    fd = connectUnix(path);
  } catch (cause) {
    if (cause instanceof SystemCallError && cause.errno === "ECONNREFUSED") {
      unlinkSync(path);
      return;
    }
    throw new NorthbridgeError("NB_HOST", reasonOf(cause), { cause });
  }
  close(fd);
  throw new NorthbridgeError(
    "NB_CONFIG",
    `${path}: expected a socket nobody uses, found one that somebody listens at`,
  );
}
