import { constants, fdatasync, readv, writev } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { type BlockBackend, NorthbridgeError } from "../contracts/index.ts";
import { fileErrorReason } from "./file-error.ts";

const SECTOR = 512;
/** Parts that one vectored call of the host takes (IOV_MAX). */
const MOST_PARTS = 1024;
const ZEROES = new Uint8Array(1 << 20);

type Vectored = (
  fd: number,
  parts: readonly NodeJS.ArrayBufferView[],
  position: number,
  done: (error: NodeJS.ErrnoException | null, bytes: number) => void,
) => void;

/** A raw image file, byte for byte the disk. Vectored reads and writes go straight into and out of guest memory. */
export class FileBlock implements BlockBackend {
  #size: number;
  readonly blockSize: number = SECTOR;
  readonly readOnly: boolean;
  readonly #path: string;
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle, size: number, readOnly: boolean) {
    this.#path = path;
    this.#file = file;
    this.#size = size;
    this.readOnly = readOnly;
  }

  get size(): number {
    return this.#size;
  }

  /** Throws `NB_CONFIG` where the file is missing, is no image, or may not be written though it should be. */
  static async open(path: string, options: { readonly readOnly: boolean }): Promise<FileBlock> {
    const { readOnly } = options;
    let file: FileHandle;
    try {
      file = await open(path, readOnly ? constants.O_RDONLY : constants.O_RDWR);
    } catch (error) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${path}: cannot open for ${readOnly ? "reading" : "writing"}: ${fileErrorReason(error)}`,
        { cause: error },
      );
    }
    const { size } = await file.stat();
    if (size === 0 || size % SECTOR !== 0) {
      await file.close();
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${path}: ${size} bytes, expected a multiple of ${SECTOR} and not 0`,
      );
    }
    return new FileBlock(path, file, size, readOnly);
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#all("read", readv, offset, into);
  }

  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    return this.#all("write", writev, offset, from);
  }

  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      fdatasync(this.#file.fd, (error) => {
        if (error === null) resolve();
        else reject(this.#error("flush", error));
      });
    });
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; ) {
      const part = Math.min(length - done, ZEROES.length);
      await this.write(offset + done, [ZEROES.subarray(0, part)]);
      done += part;
    }
  }

  async resize(size: number): Promise<void> {
    try {
      await this.#file.truncate(size);
    } catch (error) {
      throw this.#error("resize", error instanceof Error ? error : new Error(String(error)));
    }
    this.#size = size;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** All of the parts, however the host cuts them. */
  #all(what: string, call: Vectored, offset: number, parts: readonly Uint8Array[]): Promise<void> {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    if (offset < 0 || offset + length > this.size) {
      return Promise.reject(this.#error(what, new Error(`${length} bytes at ${offset} leave the image`)));
    }
    return new Promise((resolve, reject) => {
      const step = (at: number, rest: readonly Uint8Array[]): void => {
        if (rest.length === 0) {
          resolve();
          return;
        }
        call(
          this.#file.fd,
          rest.length > MOST_PARTS ? rest.slice(0, MOST_PARTS) : rest,
          at,
          (error, bytes) => {
            if (error !== null) reject(this.#error(what, error));
            else if (bytes === 0) reject(this.#error(what, new Error(`the file ends at ${at}`)));
            else step(at + bytes, behind(rest, bytes));
          },
        );
      };
      step(
        offset,
        parts.filter((part) => part.length > 0),
      );
    });
  }

  #error(what: string, error: Error): NorthbridgeError {
    return new NorthbridgeError("NB_HOST", `${this.#path}: ${what}: ${fileErrorReason(error)}`, {
      cause: error,
    });
  }
}

/** What is left of the parts behind their first `bytes`. */
function behind(parts: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let skip = bytes;
  let index = 0;
  for (; index < parts.length; index++) {
    const length = parts[index]?.length ?? 0;
    if (skip < length) break;
    skip -= length;
  }
  const first = parts[index];
  return first === undefined ? [] : [first.subarray(skip), ...parts.slice(index + 1)];
}
