import { existsSync, realpathSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { type BlockBackend, NorthbridgeError } from "@northbridge/sdk";
import type { DiskImage } from "../disk-image.ts";
import { NodeFile } from "../file/node-file.ts";
import { ImageError } from "../image-error.ts";
import { connectNbdTarget } from "../nbd/nbd-target.ts";
import { createQcow2 } from "../qcow2/create.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { backup } from "./backup-job.ts";
import { commit } from "./commit-job.ts";
import type { ImageOpener, JobOptions } from "./job.ts";
import { LiveDisk } from "./live-disk.ts";
import { MirrorJob } from "./mirror-job.ts";
import { reopenForWriting } from "./reopen-image.ts";
import { stream } from "./stream-job.ts";

/** How far a job came. */
export interface JobReport {
  /** `mirror to copy.qcow2` */
  readonly what: string;
  /** `ready`: the two are the same and are kept so, until `complete` or `cancel`. */
  readonly state: "running" | "ready" | "done" | "failed" | "cancelled";
  readonly done: number;
  readonly total: number;
  readonly error: string | undefined;
}

interface Job {
  readonly what: string;
  readonly stop: AbortController;
  state: JobReport["state"];
  done: number;
  total: number;
  error: string | undefined;
  mirror: { readonly job: MirrorJob; readonly target: BlockBackend } | undefined;
}

/** A disk that changes under its guest as somebody at the machine's monitor asks. */
export class ManagedDisk extends LiveDisk {
  readonly jobs: DiskJobs;

  /** @param open opens other images as `image` was opened */
  constructor(image: DiskImage, open: ImageOpener) {
    super(image);
    this.jobs = new DiskJobs(this, open);
  }

  override async close(): Promise<void> {
    await this.jobs.end();
    await super.close();
  }
}

/** The jobs of a disk, one at a time. */
export class DiskJobs {
  readonly #disk: LiveDisk;
  readonly #open: ImageOpener;
  #job: Job | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(disk: LiveDisk, open: ImageOpener) {
    this.#disk = disk;
    this.#open = open;
  }

  /** The job under way, or how the last one ended. */
  get last(): JobReport | undefined {
    if (this.#job === undefined) return undefined;
    const { what, state, done, total, error } = this.#job;
    return { what, state, done, total, error };
  }

  /** The image on top, with its bitmaps. */
  get image(): DiskImage {
    return this.#disk.image;
  }

  /** Puts a new overlay on top: the images below stay as they are now. */
  snapshot(path: string): void {
    this.#expectIdle();
    const below = this.#disk.image;
    const overlay = this.#create(path, below.path, below.format);
    try {
      if (below instanceof Qcow2Image) below.meta.settle();
      this.#disk.snapshot(Qcow2Image.open(overlay, { backing: below }));
    } catch (error) {
      overlay.close();
      throw error;
    }
  }

  /** Writes what the images above `base` have into it, and goes on with it. The image below the top by default. */
  commit(base?: string): void {
    this.#expectIdle();
    const found = imageBelow(this.#disk.image, base);
    const into = found.readOnly ? reopenForWriting(this.#disk.image, found, this.#open) : found;
    this.#start(`commit into ${into.path}`, (options) => commit(this.#disk, into, options));
  }

  /** Copies what is below into the top image, which stands on nothing then. */
  stream(): void {
    this.#expectIdle();
    this.#start(`stream into ${this.#disk.image.path}`, (options) => stream(this.#disk, options));
  }

  /**
   * Copies the disk as it is now to a new image.
   * @param bitmap begun anew, so that it has what the next backup must copy
   * @param base the last backup with this bitmap: only what was written since is copied, into an overlay over it
   */
  backup(path: string, bitmap?: string, base?: string): void {
    this.#expectIdle();
    const top = this.#disk.image;
    if (bitmap !== undefined && !(top instanceof Qcow2Image)) {
      throw new ImageError(top.path, "request", "the image has no bitmaps");
    }
    const bits = bitmap !== undefined && top instanceof Qcow2Image ? top.bitmaps.get(bitmap) : undefined;
    this.#create(path, base, "qcow2").close();
    const target = this.#open(path, {
      format: "qcow2",
      ...(base === undefined ? {} : { allowedDirectories: [dirname(resolve(base))] }),
    });
    this.#start(`backup to ${path}`, async (options) => {
      try {
        await backup(this.#disk, target, {
          ...options,
          ...(bits === undefined ? {} : { bitmap: bits, isFull: base === undefined }),
        });
      } finally {
        await target.close();
      }
    });
  }

  /** Copies the disk to a new image or to an NBD server (`nbd:unix:SOCKET`) and keeps the two the same. */
  async mirror(to: string): Promise<void> {
    this.#expectIdle();
    let target: BlockBackend | undefined = await connectNbdTarget(to);
    const targetIsZero = target === undefined;
    if (target === undefined) {
      this.#create(to, undefined, "qcow2").close();
      target = this.#open(to, { format: "qcow2" });
    }
    const end = target;
    const job = this.#start(`mirror to ${to}`, async (options) => {
      const mirror = new MirrorJob(this.#disk, end, { ...options, targetIsZero });
      try {
        await mirror.run();
      } catch (error) {
        await end.close();
        throw error;
      }
      job.mirror = { job: mirror, target: end };
      job.state = "ready";
    });
  }

  /**
   * Ends a mirror that is ready: its target has everything.
   * @param pivot the guest goes on with the target, and the images that it was on are closed
   */
  async complete(pivot: boolean): Promise<void> {
    const job = this.#job;
    if (job?.mirror === undefined || job.state !== "ready") {
      throw new NorthbridgeError("NB_LIFECYCLE", "no mirror is ready");
    }
    const { mirror } = job;
    const before = pivot ? this.#disk.image : undefined;
    job.state = "running";
    try {
      await mirror.job.complete(pivot);
      await (before ?? mirror.target).close();
      job.state = "done";
    } catch (error) {
      job.state = "failed";
      job.error = messageOf(error);
      throw error;
    } finally {
      job.mirror = undefined;
    }
  }

  /** Ends the job; the guest's disk stays as it is. */
  async cancel(): Promise<void> {
    const job = this.#job;
    if (job === undefined || (job.state !== "running" && job.state !== "ready")) {
      throw new NorthbridgeError("NB_LIFECYCLE", "no job is under way");
    }
    await this.end();
  }

  /** As {@link cancel}, where there is something to cancel. */
  async end(): Promise<void> {
    const job = this.#job;
    job?.stop.abort(new Error("cancelled"));
    await this.#running;
    if (job?.state !== "ready") return;
    job.mirror?.job.cancel();
    await job.mirror?.target.close();
    job.mirror = undefined;
    job.state = "cancelled";
  }

  #start(what: string, run: (options: JobOptions) => Promise<void>): Job {
    const stop = new AbortController();
    const job: Job = {
      what,
      stop,
      state: "running",
      done: 0,
      total: this.#disk.size,
      error: undefined,
      mirror: undefined,
    };
    this.#job = job;
    const onProgress = (done: number, total: number): void => {
      job.done = done;
      job.total = total;
    };
    this.#running = (async () => {
      // The caller has its answer before anything fails.
      await Promise.resolve();
      try {
        await run({ signal: stop.signal, onProgress });
        if (job.mirror === undefined) job.state = "done";
      } catch (error) {
        job.state = stop.signal.aborted ? "cancelled" : "failed";
        if (job.state === "failed") job.error = messageOf(error);
      }
    })();
    return job;
  }

  #expectIdle(): void {
    const job = this.#job;
    if (job?.state === "running" || job?.state === "ready") {
      throw new NorthbridgeError("NB_LIFECYCLE", `the disk has a job already: ${job.what}`);
    }
  }

  /** Makes an image of the disk's size where there is no file yet. */
  #create(path: string, backing: string | undefined, backingFormat: string): NodeFile {
    if (existsSync(path)) throw new ImageError(path, "request", "the file is there already");
    const top = this.#disk.image;
    if (top instanceof Qcow2Image && top.meta.isEncrypted)
      throw new ImageError(path, "unsupported", "the disk is encrypted, and its copy would not be");
    const file = NodeFile.open(path, { create: true });
    try {
      createQcow2(file, {
        size: this.#disk.size,
        ...(backing === undefined ? {} : { backingFile: nameFrom(path, backing), backingFormat }),
      });
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }
}

/** How an image at `path` names another one: beside it by its name, else by where it is. */
function nameFrom(path: string, other: string): string {
  const real = realpathSync(other);
  return dirname(real) === realpathSync(dirname(resolve(path))) ? basename(real) : real;
}

function imageBelow(top: DiskImage, name: string | undefined): DiskImage {
  for (let image = top.backing; image !== undefined; image = image.backing) {
    if (name === undefined || resolve(image.path) === resolve(name) || basename(image.path) === name)
      return image;
  }
  throw new ImageError(
    top.path,
    "request",
    name === undefined ? "the image stands on nothing" : `the image does not stand on '${name}'`,
  );
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
