import { once } from "node:events";
import { closeSync, constants, fstatSync, openSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { type ByteSink, NorthbridgeError } from "../contracts/index.ts";
import { fileErrorReason } from "./file-error.ts";
import { OutputBuffer } from "./output-buffer.ts";

// O_NONBLOCK: a FIFO that nobody reads is refused instead of waited for.
const APPEND = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;
const REASONS: Readonly<Record<string, string>> = {
  ENXIO: "nobody reads it",
  EPIPE: "nobody reads it any more",
};
/** Output that may wait for the reader of a FIFO; what comes then is lost. */
const MOST_UNREAD = 1 << 20;
/** How long that reader may take for the last of it. */
const PATIENCE_MS = 1000;

/**
 * Guest output appended to a file. What the host does not take is lost: the guest goes on, and `onLoss` hears of the first
 * of it, and of the next once something was written again.
 */
export class FileSink implements ByteSink {
  readonly #path: string;
  readonly #output: OutputBuffer;
  readonly #onLoss: (message: string) => void;
  #fd: number | undefined;
  /** Of a FIFO, which is written when it has room. */
  #fifo: Socket | undefined;
  #isLosing = false;
  #lostBytes = 0;

  /** Throws `NB_HOST` where the file cannot be opened. */
  constructor(path: string, onLoss: (message: string) => void = () => undefined) {
    this.#path = path;
    this.#onLoss = onLoss;
    try {
      this.#fd = openSync(path, APPEND, 0o666);
    } catch (error) {
      throw new NorthbridgeError("NB_HOST", `${path}: cannot open for writing: ${reasonOf(error)}`, {
        cause: error,
      });
    }
    this.#output = new OutputBuffer((bytes) => {
      if (this.#fifo === undefined) this.#append(bytes);
      else this.#send(this.#fifo, bytes);
    });
    if (!fstatSync(this.#fd).isFIFO()) return;
    this.#fifo = new Socket({ fd: this.#fd, readable: false, writable: true });
    this.#fifo.on("error", (error) => {
      this.#lose(0, error);
    });
  }

  /** Output that the host did not take, in bytes. */
  get lostBytes(): number {
    return this.#lostBytes;
  }

  write(byte: number): void {
    this.#output.write(byte);
  }

  flush(): void {
    this.#output.flush();
  }

  async close(): Promise<void> {
    if (this.#fd === undefined) return;
    this.flush();
    const [fd, fifo] = [this.#fd, this.#fifo];
    this.#fd = undefined;
    if (fifo === undefined) {
      closeSync(fd);
      return;
    }
    if (fifo.closed) return;
    const patience = setTimeout(() => {
      fifo.destroy();
    }, PATIENCE_MS);
    fifo.end(() => fifo.destroy());
    await once(fifo, "close").catch(() => undefined);
    clearTimeout(patience);
  }

  #send(fifo: Socket, bytes: Uint8Array): void {
    if (fifo.destroyed) this.#lostBytes += bytes.length;
    else if (fifo.writableLength > MOST_UNREAD) this.#lose(bytes.length, new Error("its reader is too slow"));
    else {
      fifo.write(bytes);
      this.#isLosing = false;
    }
  }

  #append(bytes: Uint8Array): void {
    if (this.#fd === undefined) return;
    let done = 0;
    try {
      while (done < bytes.length) done += writeSync(this.#fd, bytes, done);
      this.#isLosing = false;
    } catch (error) {
      this.#lose(bytes.length - done, error);
    }
  }

  #lose(bytes: number, error: unknown): void {
    this.#lostBytes += bytes;
    if (this.#isLosing) return;
    this.#isLosing = true;
    this.#onLoss(`${this.#path}: ${reasonOf(error)}: the guest's output is lost until that changes`);
  }
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return REASONS[code] ?? fileErrorReason(error);
}
