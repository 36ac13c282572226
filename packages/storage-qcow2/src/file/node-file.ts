import {
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  read,
  readSync,
  statSync,
  writeSync,
} from "node:fs";
import { promisify } from "node:util";
import { hostError, ImageError } from "../image-error.ts";
import type { BlockFile, FileExtent } from "./block-file.ts";
import { lockImage, type Sharing, weakenLock } from "./image-lock.ts";
import { linuxCalls } from "./linux-calls.ts";

/** Missing on hosts that are not Linux. */
const { O_DIRECT } = constants as { readonly O_DIRECT?: number };

const readAsync: (
  fd: number,
  into: Uint8Array,
  at: number,
  length: number,
  position: number,
) => Promise<{ readonly bytesRead: number }> = promisify(read);

/** How {@link NodeFile.open} opens. */
export interface NodeFileOptions {
  readonly readOnly?: boolean;
  /** Makes an empty file, or empties the one that is there once it is locked; `new`: there must be none. */
  readonly create?: boolean | "new";
  /** What others may do meanwhile; `later` leaves the lock to {@link NodeFile.lock}. `readers` by default. */
  readonly sharing?: Sharing | "later";
  /** Opens with `O_DIRECT`: what uses the file must know. */
  readonly direct?: boolean;
}

/** A {@link BlockFile} on the host's file system through `node:fs` (pread(2), pwrite(2), fdatasync(2)). */
export class NodeFile implements BlockFile {
  readonly path: string;
  readonly readOnly: boolean;
  #fd: number;
  #size: number;
  #sharing: Sharing = "readers";
  #last: { start: number; end: number; isHole: boolean } | undefined;

  private constructor(path: string, fd: number, size: number, readOnly: boolean) {
    this.path = path;
    this.#fd = fd;
    this.#size = size;
    this.readOnly = readOnly;
  }

  /** @throws {@link ImageError} with fault `host`, or `locked` */
  static open(path: string, options: NodeFileOptions = {}): NodeFile {
    const readOnly = options.readOnly ?? false;
    const { create = false } = options;
    const flags = readOnly
      ? constants.O_RDONLY
      : constants.O_RDWR | (create !== false ? constants.O_CREAT : 0);
    if (options.direct === true && (O_DIRECT === undefined || linuxCalls() === undefined)) {
      throw new ImageError(path, "unsupported", "O_DIRECT needs Linux on x86-64 with koffi");
    }
    return host(path, "open", () => {
      const exclusive = create === "new" ? constants.O_EXCL : 0;
      const direct = options.direct === true ? (O_DIRECT ?? 0) : 0;
      const fd = openSync(path, flags | exclusive | constants.O_NONBLOCK | direct, 0o644);
      try {
        const stat = fstatSync(fd);
        if (!stat.isFile() && !stat.isBlockDevice()) {
          throw new ImageError(path, "invalid", "expected a regular file or a block device");
        }
        const size = stat.isBlockDevice() ? sizeOfDevice(path) : stat.size;
        const file = new NodeFile(path, fd, size, readOnly);
        const sharing = options.sharing ?? "readers";
        if (sharing !== "later") file.lock(sharing);
        if (create !== false && stat.isFile()) file.truncate(0);
        return file;
      } catch (error) {
        closeSync(fd);
        throw error;
      }
    });
  }

  /**
   * Locks the file until it is closed.
   * @param isHandedOver by another opener of this process ({@link handOver}), whose lock holds already
   * @throws {@link ImageError} with fault `locked`
   */
  lock(sharing: Sharing, isHandedOver = false): void {
    this.#sharing = sharing;
    lockImage(this.path, this.#fd, !this.readOnly, sharing, isHandedOver);
    // Whoever had it locked before may have made it longer.
    const stat = host(this.path, "stat", () => fstatSync(this.#fd));
    if (stat.isFile()) this.#size = stat.size;
  }

  handOver(toWriter: boolean): void {
    const named = host(this.path, "stat", () => statSync(this.path));
    const own = host(this.path, "stat", () => fstatSync(this.#fd));
    if (named.ino !== own.ino || named.dev !== own.dev) {
      throw new ImageError(this.path, "request", "another file has this name since the image was opened");
    }
    try {
      lockImage(this.path, this.#fd, toWriter || !this.readOnly, "readers");
    } catch (error) {
      this.takeBack();
      throw error;
    }
  }

  takeBack(): void {
    weakenLock(this.path, this.#fd, !this.readOnly, this.#sharing);
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

  async readLater(offset: number, into: Uint8Array): Promise<void> {
    let done = 0;
    try {
      while (done < into.length && offset + done < this.#size) {
        const { bytesRead } = await readAsync(this.#fd, into, done, into.length - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
    } catch (error) {
      throw hostError(this.path, "read", error);
    }
    if (done < into.length) into.fill(0, done);
  }

  write(offset: number, from: Uint8Array): void {
    let done = 0;
    this.#last = undefined;
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
    this.#last = undefined;
    host(this.path, "truncate", () => ftruncateSync(this.#fd, size));
    this.#size = size;
  }

  sync(): void {
    host(this.path, "fdatasync", () => fdatasyncSync(this.#fd));
  }

  extentAt(offset: number, length: number): FileExtent {
    const last = this.#last;
    const run = last !== undefined && offset >= last.start && offset < last.end ? last : this.#seek(offset);
    this.#last = run;
    return { isHole: run.isHole, length: Math.min(length, run.end - offset) };
  }

  #seek(offset: number): { start: number; end: number; isHole: boolean } {
    const calls = linuxCalls();
    if (calls === undefined || offset >= this.#size) {
      return { start: offset, end: Infinity, isHole: offset >= this.#size };
    }
    const data = host(this.path, "lseek", () => calls.seekData(this.#fd, offset)) ?? this.#size;
    if (data > offset) return { start: offset, end: data, isHole: true };
    const hole = host(this.path, "lseek", () => calls.seekHole(this.#fd, offset)) ?? this.#size;
    return { start: offset, end: Math.max(hole, offset + 1), isHole: false };
  }

  punch(offset: number, length: number): boolean {
    const calls = linuxCalls();
    if (calls === undefined) return false;
    this.#last = undefined;
    const { KEEP_SIZE, PUNCH_HOLE } = calls.FallocateMode;
    return host(this.path, "fallocate", () =>
      calls.fallocate(this.#fd, KEEP_SIZE | PUNCH_HOLE, offset, length),
    );
  }

  allocate(offset: number, length: number): boolean {
    const calls = linuxCalls();
    this.#last = undefined;
    const done = host(this.path, "fallocate", () => calls?.fallocate(this.#fd, 0, offset, length) === true);
    if (done) this.#size = Math.max(this.#size, offset + length);
    return done;
  }

  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    // The host gives the number to the next file: nothing may reach that one from here.
    this.#fd = -1;
    host(this.path, "close", () => closeSync(fd));
  }
}

/** The size of a block device, read byte by byte: with a descriptor of its own, which has no `O_DIRECT`. */
function sizeOfDevice(path: string): number {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return endOfDevice(fd);
  } finally {
    closeSync(fd);
  }
}

/** The size of a block device, which stat(2) does not tell: the greatest offset with a byte to read. */
function endOfDevice(fd: number): number {
  const byte = new Uint8Array(1);
  const has = (offset: number): boolean => readSync(fd, byte, 0, 1, offset) === 1;
  let low = 0;
  let high = 512;
  while (has(high - 1)) {
    low = high;
    high *= 2;
  }
  while (high - low > 512) {
    const middle = low + Math.floor((high - low) / 1024) * 512;
    if (has(middle - 1)) low = middle;
    else high = middle;
  }
  return low;
}

function host<T>(path: string, what: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw error instanceof ImageError ? error : hostError(path, what, error);
  }
}
