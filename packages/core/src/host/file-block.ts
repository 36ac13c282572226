import {
  constants,
  fdatasync,
  fdatasyncSync,
  ftruncateSync,
  readv,
  readvSync,
  type Stats,
  writev,
  writevSync,
} from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { type BlockBackend, type Clock, NorthbridgeError } from "../contracts/index.ts";
import { byteLength, type Transfer, transferAll, transferAllNow } from "./file-transfer.ts";
import { fileErrorReason } from "./file-error.ts";

const SECTOR = 512;
const ZEROES = new Uint8Array(1 << 20);
/** Requests up to this size take the host less time than handing them to another thread does (docs/adr/0020). */
const MOST_AT_ONCE = 65_536;
/** Requests that took this long, so many in a row, waited for the medium: those behind them may have to, too. */
const SLOW_MS = 1;
const SLOW_IN_A_ROW = 3; // one alone may be this thread waiting for a processor
const SLOW_STREAK = 64;

const READ: Transfer = { now: readvSync, later: readv };
const WRITE: Transfer = { now: writevSync, later: writev };
const DONE = Promise.resolve();

/** Gives storage of a file back to the host (fallocate(2)), which Node cannot: `@northbridge/linux` can. */
export interface HolePuncher {
  /** Makes the range read as zeroes without storage. False where the file system cannot. */
  punch(fd: number, offset: number, length: number): boolean;
  /** Makes the range read as zeroes, with storage. False where the file system cannot. */
  zero(fd: number, offset: number, length: number): boolean;
}

/** Maps files into memory (mmap(2)), which Node cannot: `@northbridge/linux` can. */
export interface FileMapper {
  /** Puts the file under the bytes, and storage under the whole file. False where file or memory cannot be mapped. */
  map(fd: number, bytes: Uint8Array): boolean;
}

export interface FileBlockOptions {
  readonly readOnly: boolean;
  /** Guest time: under a `virtual` one every request is done before the guest goes on. @defaultValue a realtime one */
  readonly clock?: Pick<Clock, "kind">;
  /** @defaultValue the guest cannot discard */
  readonly holes?: HolePuncher;
  /** @defaultValue the file cannot be guest memory */
  readonly mapper?: FileMapper;
  /**
   * Keeps others from using the open file in a way that excludes ours, until what it gives is called: a mapping of the file
   * may outlive its descriptor. Throws. @defaultValue nobody is kept from it
   */
  readonly lock?: (path: string, fd: number, writes: boolean) => Promise<() => void>;
}

/**
 * A raw image file, byte for byte the disk. Vectored reads and writes go straight into and out of guest memory: small
 * ones at once, large ones, flushes, and all that follow some for which the medium was slow, on Node's thread pool.
 */
export class FileBlock implements BlockBackend {
  readonly blockSize: number = SECTOR;
  readonly readOnly: boolean;
  readonly discard?: (offset: number, length: number) => Promise<void>;
  readonly mapUnder?: (bytes: Uint8Array) => boolean;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #holes: HolePuncher | undefined;
  readonly #isVirtual: boolean;
  readonly #unlock: (() => void) | undefined;
  #size: number;
  /** Slow requests in a row so far. */
  #slowInARow = 0;
  /** Why a flush failed: what was written before may be lost, and nothing is written from then on (docs/adr/0035). */
  #lost: NorthbridgeError | undefined;
  /** Requests yet to come that go to the pool whatever their size. */
  #toPool = 0;
  /** Requests that the pool has. */
  readonly #underWay = new Set<Promise<void>>();
  #isClosed = false;

  private constructor(
    path: string,
    file: FileHandle,
    size: number,
    options: FileBlockOptions,
    unlock: (() => void) | undefined,
  ) {
    this.#unlock = unlock;
    this.#path = path;
    this.#file = file;
    this.#size = size;
    this.#holes = options.holes;
    this.#isVirtual = options.clock?.kind === "virtual";
    this.readOnly = options.readOnly;
    const { holes, mapper } = options;
    if (mapper !== undefined && !this.readOnly) {
      this.mapUnder = (bytes) => bytes.length === this.#size && mapper.map(file.fd, bytes);
    }
    if (holes !== undefined) {
      this.discard = (offset, length) =>
        this.#atOnce("discard", offset, length, () => void holes.punch(file.fd, offset, length));
    }
  }

  /** Throws `NB_CONFIG` where the file is missing, is no image, or may not be written though it should be. */
  static async open(path: string, options: FileBlockOptions): Promise<FileBlock> {
    const { readOnly } = options;
    let file: FileHandle;
    try {
      // O_NONBLOCK: a FIFO without a reader is refused below instead of waited for.
      file = await open(path, (readOnly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK);
    } catch (error) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${path}: cannot open for ${readOnly ? "reading" : "writing"}: ${fileErrorReason(error)}`,
        { cause: error },
      );
    }
    const fault = imageFault(await file.stat());
    if (fault !== undefined) {
      await file.close();
      throw new NorthbridgeError("NB_CONFIG", `${path}: ${fault}`);
    }
    let unlock: (() => void) | undefined;
    try {
      unlock = await options.lock?.(path, file.fd, !readOnly);
    } catch (error) {
      await file.close();
      throw error;
    }
    return new FileBlock(path, file, (await file.stat()).size, options, unlock);
  }

  get size(): number {
    return this.#size;
  }

  get location(): string {
    return this.#path;
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#transfer("read", READ, offset, into);
  }

  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    return this.#transfer("write", WRITE, offset, from);
  }

  flush(): Promise<void> {
    if (this.#isVirtual) {
      return this.#atOnce("flush", 0, 0, () => {
        try {
          fdatasyncSync(this.#file.fd);
        } catch (error) {
          this.#lost ??= this.#error("flush", error);
          throw error;
        }
      });
    }
    const refusal = this.#refusal("flush", 0, 0);
    if (refusal !== undefined) return refusal;
    return this.#keep(
      new Promise((resolve, reject) => {
        fdatasync(this.#file.fd, (error) => {
          if (error === null) {
            resolve();
            return;
          }
          const failed = this.#error("flush", error);
          this.#lost ??= failed;
          reject(failed);
        });
      }),
    );
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    const holes = this.#holes;
    if (holes !== undefined) {
      const outcome = { isDone: false };
      await this.#atOnce("write zeroes", offset, length, () => {
        const { fd } = this.#file;
        outcome.isDone = (mayUnmap && holes.punch(fd, offset, length)) || holes.zero(fd, offset, length);
      });
      if (outcome.isDone) return;
    }
    for (let done = 0; done < length; ) {
      const part = Math.min(length - done, ZEROES.length);
      await this.write(offset + done, [ZEROES.subarray(0, part)]);
      done += part;
    }
  }

  resize(size: number): Promise<void> {
    return this.#atOnce("resize", 0, 0, () => {
      ftruncateSync(this.#file.fd, size);
      this.#size = size;
    });
  }

  /** What is under way on the pool is done before: the descriptor's number may be another file's after. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
    this.#unlock?.();
    await this.#file.close();
  }

  #transfer(what: string, transfer: Transfer, offset: number, parts: readonly Uint8Array[]): Promise<void> {
    const length = byteLength(parts);
    if (!this.#isVirtual && (length > MOST_AT_ONCE || this.#toPool > 0)) {
      const refusal = this.#refusal(what, offset, length);
      if (refusal !== undefined) return refusal;
      if (this.#toPool > 0) this.#toPool--;
      return this.#keep(
        transferAll(transfer, this.#file.fd, offset, parts).catch((error: unknown) => {
          throw this.#error(what, error);
        }),
      );
    }
    return this.#atOnce(what, offset, length, () => {
      const started = performance.now();
      transferAllNow(transfer, this.#file.fd, offset, parts);
      this.#slowInARow = performance.now() - started > SLOW_MS ? this.#slowInARow + 1 : 0;
      if (this.#slowInARow < SLOW_IN_A_ROW) return;
      this.#slowInARow = 0;
      this.#toPool = SLOW_STREAK;
    });
  }

  #keep(request: Promise<void>): Promise<void> {
    const done = (): void => void this.#underWay.delete(request);
    this.#underWay.add(request);
    request.then(done, done);
    return request;
  }

  #atOnce(what: string, offset: number, length: number, act: () => void): Promise<void> {
    const refusal = this.#refusal(what, offset, length);
    if (refusal !== undefined) return refusal;
    try {
      act();
      return DONE;
    } catch (error) {
      return Promise.reject(this.#error(what, error));
    }
  }

  /** Rejects what cannot be done. */
  #refusal(what: string, offset: number, length: number): Promise<void> | undefined {
    if (this.#lost !== undefined && what !== "read") {
      const message = `${this.#path}: ${what}: what was written may be lost since a flush failed`;
      return Promise.reject(new NorthbridgeError("NB_HOST", message, { cause: this.#lost }));
    }
    if (this.#isClosed) return Promise.reject(this.#error(what, new Error("it is closed")));
    if (offset >= 0 && offset + length <= this.#size) return undefined;
    return Promise.reject(this.#error(what, new Error(`${length} bytes at ${offset} leave the image`)));
  }

  #error(what: string, error: unknown): NorthbridgeError {
    return new NorthbridgeError("NB_HOST", `${this.#path}: ${what}: ${fileErrorReason(error)}`, {
      cause: error,
    });
  }
}

/** Why this cannot be a disk. */
function imageFault(stats: Stats): string | undefined {
  if (!stats.isFile())
    return `expected a regular file, found ${stats.isDirectory() ? "a directory" : "a device, pipe or socket"}`;
  if (stats.size === 0 || stats.size % SECTOR !== 0) {
    return `${stats.size} bytes, expected a multiple of ${SECTOR} and not 0`;
  }
  return undefined;
}
