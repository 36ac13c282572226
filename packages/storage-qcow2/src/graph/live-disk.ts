import { type BlockBackend, NorthbridgeError } from "@northbridge/sdk";
import type { DiskImage } from "../disk-image.ts";
import { ImageError } from "../image-error.ts";
import { zeroRange } from "../operations/zero-range.ts";
import type { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { carryBitmaps } from "./carry-bitmaps.ts";

/** What a job wants to know of the guest's writes, zeroes and discards. */
export interface WriteObserver {
  /** Called before the disk changes, which waits for what it returns. */
  beforeWrite?(offset: number, length: number): Promise<void> | undefined;
  /** Called in the same turn in which the disk changed. */
  afterWrite?(offset: number, length: number): void;
}

/**
 * A disk whose images may change under a running guest: jobs watch its writes, an overlay goes on top, another image
 * takes its place. Each request of the guest happens at once, between two turns of the event loop, so that a job that
 * reads or switches within one turn sees no half of a request.
 */
export class LiveDisk implements BlockBackend {
  readonly blockSize: number;
  readonly readOnly: boolean;
  #size: number;
  #backend: BlockBackend;
  #image: DiskImage | undefined;
  readonly #observers = new Set<WriteObserver>();
  #held: { readonly until: Promise<void>; readonly release: () => void } | undefined;
  #isResizing = false;
  #changing = 0;
  #idle: (() => void) | undefined;

  constructor(image: DiskImage) {
    this.#size = image.size;
    this.blockSize = image.blockSize;
    this.readOnly = image.readOnly;
    this.#backend = image;
    this.#image = image;
  }

  get size(): number {
    return this.#size;
  }

  /** The image on top. @throws where the disk went to a place that is no image of this process */
  get image(): DiskImage {
    if (this.#image === undefined)
      throw new NorthbridgeError("NB_LIFECYCLE", "the disk is not on an image any more");
    return this.#image;
  }

  /** The file of the image on top, or what the disk went to. */
  get location(): string | undefined {
    return this.#image?.path ?? this.#backend.location;
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#backend.read(offset, into);
  }

  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    const length = from.reduce((sum, part) => sum + part.length, 0);
    return this.#change(offset, length, (backend) => backend.write(offset, from));
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    return this.#change(offset, length, (backend) => zeroRange(backend, offset, length, mayUnmap));
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#change(offset, length, async (backend) => backend.discard?.(offset, length));
  }

  /** Refused while a job looks on, which knows of one size only; meanwhile no job begins, and no overlay goes on top. */
  async resize(size: number): Promise<void> {
    const backend = this.#backend;
    if (backend.resize === undefined)
      throw new NorthbridgeError("NB_HOST", "this disk cannot have another size");
    if (this.#observers.size > 0) {
      throw new NorthbridgeError("NB_LIFECYCLE", "the disk has a job and cannot have another size meanwhile");
    }
    this.expectNotResizing();
    this.#isResizing = true;
    try {
      await this.hold();
      try {
        await backend.resize(size);
        this.#size = size;
      } finally {
        this.release();
      }
    } finally {
      this.#isResizing = false;
    }
  }

  /** @throws {@link NorthbridgeError} with code `NB_LIFECYCLE` while the disk gets another size */
  expectNotResizing(): void {
    if (this.#isResizing) throw new NorthbridgeError("NB_LIFECYCLE", "the disk is getting another size");
  }

  flush(): Promise<void> {
    return this.#backend.flush();
  }

  close(): Promise<void> {
    return this.#backend.close();
  }

  /** @throws while the disk gets another size */
  observe(observer: WriteObserver): void {
    this.expectNotResizing();
    this.#observers.add(observer);
  }

  forget(observer: WriteObserver): void {
    this.#observers.delete(observer);
  }

  /**
   * Puts an overlay on top: from now on the image below stays as it is (a live snapshot). Its bitmaps follow the disk.
   * @param overlay an empty image that was opened with the top image as its backing image
   */
  snapshot(overlay: Qcow2Image): void {
    this.expectNotResizing();
    if (overlay.backing !== this.image) {
      throw new ImageError(overlay.path, "request", `the overlay must stand on ${this.image.path}`);
    }
    if (overlay.size !== this.size) {
      throw new ImageError(
        overlay.path,
        "request",
        `the overlay must have ${this.size} bytes, found ${overlay.size}`,
      );
    }
    this.image.flushNow();
    carryBitmaps(this.image, overlay);
    this.switchTo(overlay);
  }

  /** Goes on with another place that has the same content. The caller closes what was there. */
  switchTo(backend: BlockBackend): void {
    this.#backend = backend;
    this.#image = isImage(backend) ? backend : undefined;
  }

  /** Lets no write begin, and resolves once none is under way. */
  async hold(): Promise<void> {
    if (this.#held !== undefined) throw new NorthbridgeError("NB_LIFECYCLE", "the disk is held already");
    let release = (): void => undefined;
    const until = new Promise<void>((resolve) => (release = resolve));
    this.#held = { until, release };
    if (this.#changing > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
  }

  /** Ends {@link hold}. */
  release(): void {
    const held = this.#held;
    this.#held = undefined;
    held?.release();
  }

  async #change(
    offset: number,
    length: number,
    act: (backend: BlockBackend) => Promise<void>,
  ): Promise<void> {
    while (this.#held !== undefined) await this.#held.until;
    this.#changing += 1;
    try {
      if (this.#observers.size === 0) {
        await act(this.#backend);
        return;
      }
      // Jobs may begin while this waits: each is asked once, and nobody is new when the disk changes.
      const asked = new Set<WriteObserver>();
      for (;;) {
        const next = [...this.#observers].find((observer) => !asked.has(observer));
        if (next === undefined) break;
        asked.add(next);
        const wait = next.beforeWrite?.(offset, length);
        if (wait !== undefined) await wait;
      }
      const done = act(this.#backend);
      for (const observer of this.#observers) observer.afterWrite?.(offset, length);
      await done;
    } finally {
      this.#changing -= 1;
      if (this.#changing === 0) this.#idle?.();
    }
  }
}

const isImage = (backend: BlockBackend): backend is DiskImage => "readAt" in backend && "extentAt" in backend;
