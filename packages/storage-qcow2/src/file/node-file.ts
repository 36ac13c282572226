import {
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from "node:fs";
import { ImageError } from "../image-error.ts";
import type { BlockFile } from "./block-file.ts";

/** How {@link NodeFile.open} opens. */
export interface NodeFileOptions {
  readonly readOnly?: boolean;
  /** Makes an empty file, or empties the one that is there. */
  readonly create?: boolean;
}

/** A {@link BlockFile} on the host's file system through `node:fs` (pread(2), pwrite(2), fdatasync(2)). */
export class NodeFile implements BlockFile {
  readonly path: string;
  readonly readOnly: boolean;
  readonly #fd: number;
  #size: number;
  #closed = false;

  private constructor(path: string, fd: number, size: number, readOnly: boolean) {
    this.path = path;
    this.#fd = fd;
    this.#size = size;
    this.readOnly = readOnly;
  }

  /** @throws {@link ImageError} with fault `host` */
  static open(path: string, options: NodeFileOptions = {}): NodeFile {
    const readOnly = options.readOnly ?? false;
    const flags = readOnly
      ? constants.O_RDONLY
      : constants.O_RDWR | (options.create === true ? constants.O_CREAT | constants.O_TRUNC : 0);
    return host(path, "open", () => {
      const fd = openSync(path, flags | constants.O_NONBLOCK, 0o644);
      const stat = fstatSync(fd);
      if (!stat.isFile() && !stat.isBlockDevice()) {
        closeSync(fd);
        throw new ImageError(path, "invalid", "expected a regular file or a block device");
      }
      return new NodeFile(path, fd, stat.size, readOnly);
    });
  }

  size(): number {
    return this.#size;
  }

  allocated(): number {
    return host(this.path, "stat", () => fstatSync(this.#fd).blocks * 512);
  }

  read(offset: number, into: Uint8Array): void {
    let done = 0;
    try {
      while (done < into.length && offset + done < this.#size) {
        const got = readSync(this.#fd, into, done, into.length - done, offset + done);
        if (got === 0) break;
        done += got;
      }
    } catch (error) {
      throw hostError(this.path, "read", error);
    }
    if (done < into.length) into.fill(0, done);
  }

  write(offset: number, from: Uint8Array): void {
    let done = 0;
    try {
      while (done < from.length) {
        done += writeSync(this.#fd, from, done, from.length - done, offset + done);
      }
    } catch (error) {
      throw hostError(this.path, "write", error);
    }
    if (offset + done > this.#size) this.#size = offset + done;
  }

  truncate(size: number): void {
    host(this.path, "truncate", () => ftruncateSync(this.#fd, size));
    this.#size = size;
  }

  sync(): void {
    host(this.path, "fdatasync", () => fdatasyncSync(this.#fd));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    host(this.path, "close", () => closeSync(this.#fd));
  }
}

function host<T>(path: string, what: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw error instanceof ImageError ? error : hostError(path, what, error);
  }
}

const hostError = (path: string, what: string, error: unknown): ImageError =>
  new ImageError(path, "host", `${what} failed: ${error instanceof Error ? error.message : String(error)}`, {
    cause: error,
  });
