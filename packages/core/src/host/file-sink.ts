import { closeSync, openSync, writeSync } from "node:fs";
import { type ByteSink, NorthbridgeError } from "../contracts/index.ts";
import { OutputBuffer } from "./output-buffer.ts";

/** Guest output appended to a file. */
export class FileSink implements ByteSink {
  readonly #output: OutputBuffer;
  #fd: number | undefined;

  /** Throws `NB_HOST` where the file cannot be opened. */
  constructor(path: string) {
    try {
      this.#fd = openSync(path, "a");
    } catch (error) {
      throw new NorthbridgeError("NB_HOST", `${path}: cannot open for writing: ${(error as Error).message}`, {
        cause: error,
      });
    }
    this.#output = new OutputBuffer((bytes) => {
      if (this.#fd === undefined) return;
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    });
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
}
