import { type BlockBackend, NorthbridgeError } from "@northbridge/sdk";
import type { DiskImage } from "../disk-image.ts";
import { chainExtents } from "../operations/chain-extents.ts";
import { Bitmap } from "../qcow2/bitmap.ts";
import { carryBitmaps } from "./carry-bitmaps.ts";
import { breathe, JOB_CHUNK, type JobOptions } from "./job.ts";
import type { LiveDisk } from "./live-disk.ts";

/** What may be left when a mirror says that it is ready: copied while the guest's writes are held. */
const READY_BYTES = 16 * JOB_CHUNK;

/** How {@link MirrorJob} copies. */
export interface MirrorOptions extends JobOptions {
  /** Copies what the images above this one have, and nothing else: the target has the rest. */
  readonly above?: DiskImage;
  /** The target reads as zeroes where nothing was written. */
  readonly targetIsZero?: boolean;
}

/**
 * Copies a disk to another place while the guest writes, until both are the same ({@link run}); then keeps them so until
 * {@link complete} or {@link cancel}. Once everything was copied once, a write of the guest first copies a little more
 * than it makes dirty: a guest that writes without pause cannot keep the job from its end.
 */
export class MirrorJob {
  readonly #disk: LiveDisk;
  readonly #target: BlockBackend;
  readonly #options: MirrorOptions;
  readonly #dirty: Bitmap = new Bitmap("mirror", JOB_CHUNK, 4096, true);
  readonly #underWay = new Map<number, Promise<void>>();
  readonly #observer = {
    beforeWrite: (_offset: number, length: number): Promise<void> | undefined =>
      this.#isConverging && this.#dirty.dirtyBits > 0 ? this.#helpWith(length) : undefined,
    afterWrite: (offset: number, length: number): void => this.#dirty.mark(offset, length),
  };
  #isConverging = false;
  #isReady = false;
  #failed: Error | undefined;

  constructor(disk: LiveDisk, target: BlockBackend, options: MirrorOptions = {}) {
    if (target.size < disk.size) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `mirror: the target has ${target.size} bytes, expected ${disk.size}`,
      );
    }
    this.#disk = disk;
    this.#target = target;
    this.#options = options;
  }

  /** Resolves once the target has everything but the last MiB or so that the guest has written. */
  async run(): Promise<void> {
    const { image } = this.#disk;
    const { above, targetIsZero } = this.#options;
    this.#disk.observe(this.#observer);
    try {
      for (const extent of chainExtents(image, 0, image.size, above)) {
        const isNothing = above === undefined ? extent.isZero && targetIsZero === true : !extent.isPresent;
        if (!isNothing) this.#dirty.mark(extent.start, extent.length);
      }
      await this.#drain(READY_BYTES);
      this.#isReady = true;
    } catch (error) {
      this.cancel();
      throw error;
    }
  }

  /**
   * Lets no write of the guest begin for a moment, copies what is left and makes it stable.
   * @param pivot the guest goes on with the target, and its bitmaps with it; what it was on before is the caller's to close
   */
  async complete(pivot: boolean): Promise<void> {
    if (!this.#isReady) throw new NorthbridgeError("NB_LIFECYCLE", "mirror: run() must have ended first");
    await this.#disk.hold();
    try {
      await this.#drain(0);
      await this.#target.flush();
      if (pivot) {
        carryBitmaps(this.#disk.image, this.#target);
        this.#disk.switchTo(this.#target);
      }
    } finally {
      this.cancel();
      this.#disk.release();
    }
  }

  /** Gives up; the target is no copy. */
  cancel(): void {
    this.#disk.forget(this.#observer);
  }

  /** @param rest leaves so many bytes, once everything was copied once: a guest that writes always leaves some */
  async #drain(rest: number): Promise<void> {
    const { size } = this.#disk;
    let done = 0;
    while (this.#dirty.dirtyBits * JOB_CHUNK > (this.#isConverging ? rest : 0)) {
      await this.#copyFirst();
      done = Math.min(done + JOB_CHUNK, size);
      if (done === size) this.#isConverging = true;
      if (!this.#isReady) this.#options.onProgress?.(done, size);
      await breathe(this.#options.signal);
    }
    await Promise.all(this.#underWay.values());
    if (this.#failed !== undefined) throw this.#failed;
  }

  /** What a write of the guest copies before it makes `length` bytes dirty. Its failures are the job's. */
  async #helpWith(length: number): Promise<void> {
    for (let chunks = Math.ceil(length / JOB_CHUNK) + 2; chunks > 0; chunks -= 1) {
      try {
        await this.#copyFirst();
      } catch (error) {
        this.#failed ??= error instanceof Error ? error : new Error(String(error));
        return;
      }
    }
  }

  async #copyFirst(): Promise<void> {
    const chunk = this.#dirty.first();
    if (chunk === undefined) return;
    // Two copies of a chunk at the same time could reach the target in any order.
    const before = this.#underWay.get(chunk);
    if (before !== undefined) {
      await before;
      return;
    }
    this.#dirty.clearBit(chunk);
    const offset = chunk * JOB_CHUNK;
    const bytes = new Uint8Array(Math.min(JOB_CHUNK, this.#disk.size - offset));
    // A live snapshot may have put another image on top meanwhile.
    this.#disk.image.readAt(offset, bytes);
    const copied = this.#target.write(offset, [bytes]).finally(() => this.#underWay.delete(chunk));
    this.#underWay.set(chunk, copied);
    await copied;
  }
}
