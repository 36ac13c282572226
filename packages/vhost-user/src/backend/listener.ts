import { acceptUnix, CannotListen, FdWatch, ListeningSocket, SystemCallError } from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";

/** accept(2): this process, or the system, has no room for another connection. */
const EXHAUSTED: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);
const RETRY_MS = 1000;

/** A Unix socket that connections come to, one after the other: the next one waits until the last has ended. */
export class Listener {
  readonly #socket: ListeningSocket;
  readonly #serve: (fd: number) => Promise<void>;
  #watch: FdWatch | undefined;
  #later: NodeJS.Timeout | undefined;
  #isClosed = false;

  /**
   * Listens at `path`. A socket that is there and that nobody listens at any more gives way. Throws `NB_HOST`.
   * @param serve resolves when the connection has ended
   */
  constructor(path: string, serve: (fd: number) => Promise<void>) {
    this.#serve = serve;
    try {
      this.#socket = ListeningSocket.at(path);
    } catch (cause) {
      if (cause instanceof CannotListen) throw new NorthbridgeError("NB_HOST", cause.message, { cause });
      throw cause;
    }
    this.#listen();
  }

  /** Takes no more connections and removes the socket. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#watch?.close();
    clearTimeout(this.#later);
    this.#socket.close();
  }

  #listen(): void {
    if (this.#isClosed) return;
    this.#watch = new FdWatch(this.#socket.fd, () => {
      this.#accept();
    });
  }

  #accept(): void {
    let fd: number | undefined;
    try {
      fd = acceptUnix(this.#socket.fd);
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
