import { type BlockBackend, NorthbridgeError } from "@northbridge/sdk";
import type { DiskImage } from "../disk-image.ts";
import { Bitmap } from "../qcow2/bitmap.ts";
import { breathe, JOB_CHUNK, type JobOptions } from "./job.ts";
import type { LiveDisk } from "./live-disk.ts";

/** How {@link backup} copies. */
export interface BackupOptions extends JobOptions {
  /**
   * Copies only what this bitmap has, and begins it anew in the same moment: the next backup with it copies what was
   * written since this one. A backup that fails gives its bits back.
   */
  readonly bitmap?: Bitmap;
  /** Copies everything, and begins the bitmap anew: for the first of such backups. */
  readonly isFull?: boolean;
  /** Closes the target: only then the backup is one. */
  readonly close?: () => Promise<void>;
}

/**
 * Copies the disk as it is at the moment of the call, while the guest goes on writing: what the guest is about to
 * overwrite is copied first.
 * @param target a disk of the same size; for a backup by bitmap, an overlay over the last backup
 */
export async function backup(
  disk: LiveDisk,
  target: BlockBackend,
  options: BackupOptions = {},
): Promise<void> {
  if (target.size < disk.size) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `backup: the target has ${target.size} bytes, expected ${disk.size}`,
    );
  }
  disk.expectNotResizing();
  const { size } = disk;
  const granularity = Math.max(JOB_CHUNK, options.bitmap?.granularity ?? 0);
  const toDo = new Bitmap("backup", granularity, 4096, true);
  const { bitmap } = options;
  const wanted = new Bitmap("wanted", granularity, 4096, true);
  if (bitmap === undefined || options.isFull === true) wanted.mark(0, size);
  else wanted.merge(bitmap, size);
  bitmap?.clear();
  toDo.merge(wanted, size);
  const copies = new CopyBeforeWrite(() => disk.image, target, toDo, size);
  disk.observe(copies);
  try {
    for (let chunk = toDo.first(); chunk !== undefined; chunk = toDo.first()) {
      await copies.copy(chunk);
      options.onProgress?.(Math.max(0, size - toDo.dirtyBits * granularity), size);
      await breathe(options.signal);
    }
    await copies.finished();
    await target.flush();
    await options.close?.();
  } catch (error) {
    bitmap?.merge(wanted, size);
    throw error;
  } finally {
    disk.forget(copies);
  }
}

class CopyBeforeWrite {
  readonly #image: () => DiskImage;
  readonly #target: BlockBackend;
  readonly #toDo: Bitmap;
  readonly #size: number;
  readonly #underWay = new Map<number, Promise<void>>();
  #failed: Error | undefined;

  constructor(image: () => DiskImage, target: BlockBackend, toDo: Bitmap, size: number) {
    this.#image = image;
    this.#target = target;
    this.#toDo = toDo;
    this.#size = size;
  }

  /** The old bytes are read in this turn; the guest waits until the target has them, which bounds what is in memory. */
  beforeWrite(offset: number, length: number): Promise<void> | undefined {
    const { granularity } = this.#toDo;
    const waits: Promise<void>[] = [];
    if (length === 0) return undefined;
    const last = Math.floor((offset + length - 1) / granularity);
    for (let chunk = Math.floor(offset / granularity); chunk <= last; chunk += 1) {
      const wait = this.#toDo.isSet(chunk) ? this.copy(chunk) : this.#underWay.get(chunk);
      // A backup that cannot be written is the backup's failure, not the guest's.
      if (wait !== undefined) waits.push(wait.catch(() => undefined));
    }
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
  }

  copy(chunk: number): Promise<void> {
    const offset = chunk * this.#toDo.granularity;
    this.#toDo.clearBit(chunk);
    const bytes = new Uint8Array(Math.min(this.#toDo.granularity, this.#size - offset));
    const copied = this.#write(offset, bytes).finally(() => this.#underWay.delete(chunk));
    copied.catch((error: unknown) => {
      this.#failed ??= error instanceof Error ? error : new Error(String(error));
    });
    this.#underWay.set(chunk, copied);
    return copied;
  }

  /** Rejects where a copy failed, be it one that the guest waited for. */
  async finished(): Promise<void> {
    await Promise.all(this.#underWay.values());
    if (this.#failed !== undefined) throw this.#failed;
  }

  #write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#image().readAt(offset, bytes);
    return this.#target.write(offset, [bytes]);
  }
}
