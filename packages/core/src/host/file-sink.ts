import { closeSync, constants, openSync, writeSync } from "node:fs";
import { type ByteSink, NorthbridgeError } from "../contracts/index.ts";
import { fileErrorReason } from "./file-error.ts";
import { OutputBuffer } from "./output-buffer.ts";

// O_NONBLOCK: a FIFO that nobody reads is refused instead of waited for, and one that is full loses output.
const APPEND = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;
const REASONS: Readonly<Record<string, string>> = {
  ENXIO: "nobody reads it",
  EPIPE: "nobody reads it any more",
  EAGAIN: "its reader is too slow",
};

/**
 * Guest output appended to a file. What the host does not take is lost: the guest goes on, and `onLoss` hears of the first
 * of it, and of the next once something was written again.
 */
export class FileSink implements ByteSink {
  readonly #path: string;
  readonly #output: OutputBuffer;
  readonly #onLoss: (message: string) => void;
  #fd: number | undefined;
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
      this.#append(bytes);
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

  close(): void {
    if (this.#fd === undefined) return;
    this.flush();
    closeSync(this.#fd);
    this.#fd = undefined;
  }

  #append(bytes: Uint8Array): void {
    if (this.#fd === undefined) return;
    let done = 0;
    try {
      while (done < bytes.length) done += writeSync(this.#fd, bytes, done);
      this.#isLosing = false;
    } catch (error) {
      this.#lostBytes += bytes.length - done;
      if (this.#isLosing) return;
      this.#isLosing = true;
      this.#onLoss(`${this.#path}: ${reasonOf(error)}: the guest's output is lost until that changes`);
    }
  }
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return REASONS[code] ?? fileErrorReason(error);
}
