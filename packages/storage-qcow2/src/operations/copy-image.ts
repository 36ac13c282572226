import type { DiskImage } from "../disk-image.ts";
import { Compressor } from "../qcow2/compression.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { chainExtentAt } from "./chain-extents.ts";
import { isZero, zeroRuns } from "./zero-scan.ts";

/** Hears how much of an operation is done, of how much. */
export type Progress = (done: number, total: number) => void;

/** How {@link copyImage} copies. */
export interface CopyOptions {
  /** Bytes in a row that must be zero not to be written; 0 writes everything. */
  readonly sparseBytes?: number;
  /** Writes compressed clusters, into a qcow2 image. */
  readonly compress?: boolean;
  /** The target reads as zeroes where nothing was written: zeroes need not be. */
  readonly targetIsZero?: boolean;
  /** The target stands on the same backing image as the source: only what the source itself has is copied. */
  readonly sharedBacking?: boolean;
  /** Clusters that are compressed at the same time. */
  readonly parallel?: number;
  /** Reads as zeroes what cannot be read. Returns the failures' offsets through this. */
  readonly onReadError?: (offset: number, error: unknown) => void;
  readonly onProgress?: Progress;
}

const CHUNK = 2 << 20;
/** How far an extent is followed at a time: its table entries are looked at again for each chunk of it. */
const LOOK_AHEAD = 64 << 20;

/** Copies a disk into another, which is at least as long. Gives the event loop a turn between chunks. */
export async function copyImage(
  source: DiskImage,
  target: DiskImage,
  options: CopyOptions = {},
): Promise<void> {
  const writer =
    options.compress === true && target instanceof Qcow2Image
      ? new CompressingWriter(target, options.parallel ?? 8, options.targetIsZero === true)
      : undefined;
  try {
    await copyData(source, target, writer, options);
    await writer?.finish();
  } finally {
    writer?.close();
  }
  options.onProgress?.(source.size, source.size);
}

/** Zeroes that take up room. */
function writeZeroBytes(target: DiskImage, offset: number, length: number): void {
  const zeroes = new Uint8Array(Math.min(CHUNK, length));
  for (let done = 0; done < length; done += zeroes.length)
    target.writeAt(offset + done, zeroes.subarray(0, Math.min(zeroes.length, length - done)));
}

async function copyData(
  source: DiskImage,
  target: DiskImage,
  writer: CompressingWriter | undefined,
  options: CopyOptions,
): Promise<void> {
  const unit = target instanceof Qcow2Image ? target.meta.clusterSize : (options.sparseBytes ?? 4096);
  const zero = (at: number, length: number): void => {
    if (options.sparseBytes === 0) writeZeroBytes(target, at, length);
    else if (options.targetIsZero !== true) target.writeZeroesAt(at, length, true);
  };
  const chunkBytes = Math.max(CHUNK, unit);
  // While one buffer is written, the other is read into.
  const buffers = [new Uint8Array(chunkBytes), new Uint8Array(chunkBytes)] as const;
  const chunks = chunksToCopy(source, chunkBytes, writer === undefined ? 0 : unit, options);
  let turn = 0;
  const begin = (): Reading | undefined => {
    const { value: chunk } = chunks.next();
    if (chunk === undefined) return undefined;
    if (chunk.isZero) return { chunk, bytes: NOTHING, isRead: undefined };
    turn = 1 - turn;
    const bytes = (turn === 0 ? buffers[0] : buffers[1]).subarray(0, chunk.length);
    const isRead = source.readLater?.(chunk.at, bytes)?.then(
      () => true,
      // Read again, to say which sectors cannot be.
      () => false,
    );
    return { chunk, bytes, isRead };
  };
  let next = begin();
  while (next !== undefined) {
    const { chunk, bytes, isRead } = next;
    next = begin();
    if (chunk.isZero) {
      zero(chunk.at, chunk.length);
      continue;
    }
    const { at } = chunk;
    if ((await isRead) !== true) readOrReport(source, at, bytes, options);
    if (writer !== undefined) await writer.write(at, bytes);
    else if (options.sparseBytes === 0) target.writeAt(at, bytes);
    else {
      // Runs are measured on the target's grid.
      const lead = Math.min(bytes.length, (unit - (at % unit)) % unit);
      for (const part of lead > 0 ? [bytes.subarray(0, lead), bytes.subarray(lead)] : [bytes]) {
        const base = at + (part.byteOffset - bytes.byteOffset);
        for (const run of zeroRuns(part, unit)) {
          if (run.isZero) zero(base + run.start, run.end - run.start);
          else target.writeAt(base + run.start, part.subarray(run.start, run.end));
        }
      }
    }
    options.onProgress?.(at + bytes.length, source.size);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const NOTHING = new Uint8Array(0);

interface Chunk {
  readonly at: number;
  readonly length: number;
  readonly isZero: boolean;
}

/** A chunk on its way from the source. */
interface Reading {
  readonly chunk: Chunk;
  readonly bytes: Uint8Array;
  /** `undefined`: is read when its turn comes. False: that failed. */
  readonly isRead: Promise<boolean> | undefined;
}

/**
 * What has to be copied, in order.
 * @param unit whole units of the target are read, whatever part of them is data; 0 for any bytes
 */
function* chunksToCopy(
  source: DiskImage,
  chunkBytes: number,
  unit: number,
  options: CopyOptions,
): Generator<Chunk, undefined> {
  let at = 0;
  while (at < source.size) {
    const extent = extentToCopy(source, at, options.sharedBacking === true);
    if (extent.kind !== "data") {
      if (extent.kind === "zero") yield { at, length: extent.length, isZero: true };
      at += extent.length;
      continue;
    }
    let end = at + extent.length;
    if (unit > 0) {
      at -= at % unit;
      end = Math.min(source.size, Math.ceil(end / unit) * unit);
    }
    const length = Math.min(chunkBytes - (at % chunkBytes), end - at);
    yield { at, length, isZero: false };
    at += length;
  }
  return undefined;
}

function extentToCopy(
  source: DiskImage,
  at: number,
  sharedBacking: boolean,
): { readonly kind: "data" | "zero" | "below"; readonly length: number } {
  const room = Math.min(source.size - at, LOOK_AHEAD);
  const extent = chainExtentAt(source, at, room, sharedBacking ? source.backing : undefined);
  if (extent.isData && !extent.isZero) return { kind: "data", length: extent.length };
  return { kind: sharedBacking && !extent.isPresent ? "below" : "zero", length: extent.length };
}

function readOrReport(source: DiskImage, at: number, bytes: Uint8Array, options: CopyOptions): void {
  try {
    source.readAt(at, bytes);
  } catch (error) {
    if (options.onReadError === undefined) throw error;
    for (let sector = 0; sector < bytes.length; sector += 512) {
      const part = bytes.subarray(sector, sector + 512);
      try {
        source.readAt(at + sector, part);
      } catch (failure) {
        part.fill(0);
        options.onReadError(at + sector, failure);
      }
    }
  }
}

/** Compresses clusters on the pool of threads of Node's zlib and writes them in order. */
class CompressingWriter {
  readonly #target: Qcow2Image;
  readonly #parallel: number;
  readonly #compressor: Compressor;
  readonly #queue: Promise<() => void>[] = [];
  #partial: { offset: number; bytes: Uint8Array; filled: number } | undefined;

  readonly #targetIsZero: boolean;

  constructor(target: Qcow2Image, parallel: number, targetIsZero: boolean) {
    this.#target = target;
    this.#parallel = parallel;
    this.#compressor = new Compressor(target.header.compressionType, target.meta.clusterSize);
    this.#targetIsZero = targetIsZero;
  }

  /** Takes bytes that follow those of the call before, or start a cluster. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const { clusterSize } = this.#target.meta;
    let done = 0;
    while (done < bytes.length) {
      const at = offset + done;
      const within = at % clusterSize;
      if (this.#partial?.offset !== at - within) {
        await this.#endPartial();
        this.#partial = { offset: at - within, bytes: new Uint8Array(clusterSize), filled: 0 };
      }
      const part = bytes.subarray(done, done + clusterSize - within);
      this.#partial.bytes.set(part, within);
      this.#partial.filled = within + part.length;
      done += part.length;
      if (this.#partial.filled === clusterSize) await this.#endPartial();
    }
  }

  async finish(): Promise<void> {
    await this.#endPartial();
    while (this.#queue.length > 0) await this.#writeFirst();
  }

  /** Gives the encoders back, finished or not. */
  close(): void {
    this.#compressor.close();
  }

  async #endPartial(): Promise<void> {
    const partial = this.#partial;
    this.#partial = undefined;
    if (partial === undefined) return;
    const target = this.#target;
    const { offset, bytes } = partial;
    if (isZero(bytes)) {
      if (!this.#targetIsZero) {
        target.writeZeroesAt(offset, Math.min(bytes.length, target.size - offset), true);
      }
      return;
    }
    this.#queue.push(
      this.#compressor.pack(bytes).then((packed) => () => {
        target.writeCompressedCluster(
          offset,
          bytes.subarray(0, Math.min(bytes.length, target.size - offset)),
          packed,
        );
      }),
    );
    if (this.#queue.length >= this.#parallel) await this.#writeFirst();
  }

  async #writeFirst(): Promise<void> {
    const write = await this.#queue.shift();
    write?.();
  }
}
