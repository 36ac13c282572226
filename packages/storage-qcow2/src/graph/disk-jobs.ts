import { realpathSync, rmSync, statSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { type BlockBackend, NorthbridgeError } from "@northbridge/sdk";
import type { DiskImage } from "../disk-image.ts";
import { NodeFile } from "../file/node-file.ts";
import { ImageError } from "../image-error.ts";
import { connectNbdTarget, isNbdTarget } from "../nbd/nbd-target.ts";
import { imagesAbove } from "../operations/commit-image.ts";
import { createQcow2 } from "../qcow2/create.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { backup } from "./backup-job.ts";
import { commit } from "./commit-job.ts";
import type { ImageOpener, JobOptions } from "./job.ts";
import { LiveDisk } from "./live-disk.ts";
import { MirrorJob } from "./mirror-job.ts";
import { reopenImage } from "./reopen-image.ts";
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

  readonly #onCancelled: ((job: JobReport) => void) | undefined;

  /**
   * @param open opens other images as `image` was opened
   * @param onCancelled hears of a job that the end of the disk ended
   */
  constructor(image: DiskImage, open: ImageOpener, onCancelled?: (job: JobReport) => void) {
    super(image);
    this.jobs = new DiskJobs(this, open);
    this.#onCancelled = onCancelled;
  }

  override async resize(size: number): Promise<void> {
    this.jobs.expectIdle();
    await super.resize(size);
  }

  override async close(): Promise<void> {
    try {
      const cancelled = await this.jobs.close();
      if (cancelled !== undefined) this.#onCancelled?.(cancelled);
    } finally {
      await super.close(); // whatever became of a job's target
    }
  }
}

/** What jobs whose target would have the content of an encrypted disk in the clear must be told. */
export interface PlainOption {
  /** The target may be unencrypted though the disk is not. */
  readonly plain?: boolean;
}

/** The jobs of a disk, one at a time. */
export class DiskJobs {
  readonly #disk: LiveDisk;
  readonly #open: ImageOpener;
  #job: Job | undefined;
  /** A job that waits for its target before it is one. */
  #beginning: string | undefined;
  /** By bitmap. */
  readonly #lastBackups = new Map<string, HostFile>();
  #running: Promise<void> = Promise.resolve();
  #isClosed = false;

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

  /**
   * Puts a new overlay on top: the images below stay as they are now, and others may read them. Of an encrypted image the
   * overlay has the keys.
   */
  snapshot(path: string): void {
    this.expectIdle();
    const below = this.#disk.image;
    const overlay = this.#create(path, below.path, below.format);
    try {
      const encryptedAs = below instanceof Qcow2Image ? { encryptedAs: below } : {};
      this.#disk.snapshot(Qcow2Image.open(overlay, { backing: below, ...encryptedAs }));
    } catch (error) {
      overlay.close();
      rmSync(path, { force: true });
      throw error;
    }
    this.#letOthersRead(below);
  }

  /** Writes what the images above `base` have into it, and goes on with it. The image below the top by default. */
  commit(base?: string, options: PlainOption = {}): void {
    this.expectIdle();
    const top = this.#disk.image;
    const found = imageBelow(top, base);
    if (!isEncrypted(found)) expectPlain(imagesAbove(top, found), `commit into ${found.path}`, options);
    const into = found.readOnly ? reopenImage(top, found, this.#open, false) : found;
    const job = this.#start(`commit into ${into.path}`, async (options) => {
      try {
        await commit(this.#disk, into, options);
      } catch (error) {
        if (this.#disk.image !== into) {
          this.#letOthersRead(into);
          throw error;
        }
        // The guest is on the base: only an image that it was on failed to close.
        job.error = messageOf(error);
      }
    });
  }

  /** Copies what is below into the top image, which stands on nothing then. */
  stream(options: PlainOption = {}): void {
    this.expectIdle();
    const top = this.#disk.image;
    if (!isEncrypted(top)) expectPlain(chainOf(top), `stream into ${top.path}`, options);
    this.#start(`stream into ${top.path}`, (job) => stream(this.#disk, job));
  }

  /**
   * Copies the disk as it is now to a new image, encrypted as the disk is.
   * @param bitmap begun anew, so that it has what the next backup must copy
   * @param base the last backup with this bitmap: only what was written since is copied, into an overlay over it.
   *   Refused where it cannot be that: an image that the disk stands on, a longer one, or another one than the last backup
   *   that was made here and still is where it was. That it is the right one otherwise, nobody can tell.
   */
  backup(path: string, bitmap?: string, base?: string, options: PlainOption = {}): void {
    this.expectIdle();
    const top = this.#disk.image;
    if (bitmap !== undefined && !(top instanceof Qcow2Image)) {
      throw new ImageError(top.path, "request", "the image has no bitmaps");
    }
    const bits = bitmap !== undefined && top instanceof Qcow2Image ? top.bitmaps.get(bitmap) : undefined;
    if (base !== undefined) this.#expectLastBackup(base, bitmap);
    const target = this.#createAndOpen(path, `backup to ${path}`, options, base);
    this.#start(`backup to ${path}`, async (job) => {
      try {
        await backup(this.#disk, target, {
          ...job,
          ...(bits === undefined ? {} : { bitmap: bits, isFull: base === undefined }),
          close: () => target.close(),
        });
      } catch (error) {
        // What it has of the disk looks like all of it.
        await target.close().catch(() => undefined);
        rmSync(path, { force: true });
        throw error;
      }
      if (bitmap !== undefined) this.#lastBackups.set(bitmap, fileAt(path));
    });
  }

  /** @throws {@link ImageError} where `base` cannot be the backup that a bitmap was begun with */
  #expectLastBackup(base: string, bitmap: string | undefined): void {
    const found = fileAt(base);
    const refuse = (why: string): never => {
      throw new ImageError(base, "request", `cannot be the last backup: ${why}`);
    };
    if (chainOf(this.#disk.image).some(({ path }) => isSameFile(fileAt(path), found))) {
      refuse("the disk stands on it");
    }
    const image = this.#open(base, { format: "qcow2", readOnly: true, withoutBacking: true });
    const { size } = image;
    image.closeNow();
    if (size > this.#disk.size) refuse(`it has ${size} bytes, expected at most ${this.#disk.size}`);
    const last = bitmap === undefined ? undefined : this.#lastBackups.get(bitmap);
    // One that was moved away may be what `base` is now.
    if (last !== undefined && isSameFile(fileAt(last.path), last) && !isSameFile(last, found)) {
      refuse(`with bitmap '${bitmap}' that is ${last.path}`);
    }
  }

  /**
   * Copies the disk to a new image, encrypted as the disk is, or to an NBD server (`nbd:unix:SOCKET`), and keeps the two
   * the same.
   */
  async mirror(to: string, options: PlainOption = {}): Promise<void> {
    this.expectIdle();
    this.#beginning = `mirror to ${to}`;
    let server: BlockBackend | undefined;
    try {
      if (isNbdTarget(to)) expectPlain(chainOf(this.#disk.image), this.#beginning, options);
      server = await connectNbdTarget(to);
      if (this.#isClosed) throw new NorthbridgeError("NB_LIFECYCLE", "the disk was closed meanwhile");
    } catch (error) {
      await server?.close();
      throw error;
    } finally {
      this.#beginning = undefined;
    }
    const target = server ?? this.#createAndOpen(to, `mirror to ${to}`, options);
    const targetIsZero = server === undefined;
    const job = this.#start(`mirror to ${to}`, async (started) => {
      try {
        const mirror = new MirrorJob(this.#disk, target, { ...started, targetIsZero });
        await mirror.run();
        job.mirror = { job: mirror, target };
        job.state = "ready";
      } catch (error) {
        // What it has of the disk looks like all of it.
        await target.close().catch(() => undefined);
        if (server === undefined) rmSync(to, { force: true });
        throw error;
      }
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
    job.mirror = undefined;
    job.state = "running";
    const completing = this.#completeMirror(job, mirror, pivot);
    // Whoever closes the disk waits for it.
    this.#running = completing.catch(() => undefined);
    await completing;
  }

  async #completeMirror(job: Job, mirror: NonNullable<Job["mirror"]>, pivot: boolean): Promise<void> {
    const before = this.#disk.image;
    let isOnTarget = false;
    try {
      await mirror.job.complete(pivot);
      isOnTarget = pivot;
      await (pivot ? before : mirror.target).close();
      job.state = "done";
    } catch (error) {
      // Where the guest is on the target, only the images that it was on failed to close.
      job.state = isOnTarget ? "done" : job.stop.signal.aborted ? "cancelled" : "failed";
      job.error = messageOf(error);
      if (!isOnTarget) await mirror.target.close().catch(() => undefined);
      throw error;
    }
  }

  /** Ends the job; the guest's disk stays as it is. */
  async cancel(): Promise<void> {
    const job = this.#job;
    if (job === undefined || (job.state !== "running" && job.state !== "ready")) {
      throw new NorthbridgeError("NB_LIFECYCLE", "no job is under way");
    }
    await this.#end();
  }

  /** As {@link cancel}, where there is something to cancel; no job begins afterwards. Returns what was cancelled. */
  async close(): Promise<JobReport | undefined> {
    this.#isClosed = true;
    const job = this.#job;
    const wasUnderWay = job?.state === "running" || job?.state === "ready";
    await this.#end();
    return wasUnderWay && job.state === "cancelled" ? this.last : undefined;
  }

  async #end(): Promise<void> {
    const job = this.#job;
    job?.stop.abort(new Error("cancelled"));
    await this.#running;
    if (job?.state !== "ready") return;
    const { mirror } = job;
    job.mirror = undefined;
    job.state = "cancelled";
    mirror?.job.cancel();
    await mirror?.target.close();
  }

  /** An image that the guest does not write to any more is opened for reading. Where that fails it only stays locked. */
  #letOthersRead(below: DiskImage): void {
    try {
      reopenImage(this.#disk.image, below, this.#open, true);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
    }
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

  /** @throws {@link NorthbridgeError} with code `NB_LIFECYCLE` while another job could not begin */
  expectIdle(): void {
    this.#disk.expectNotResizing();
    const job = this.#job;
    const what =
      this.#beginning ?? (job?.state === "running" || job?.state === "ready" ? job.what : undefined);
    if (what !== undefined) throw new NorthbridgeError("NB_LIFECYCLE", `the disk has a job already: ${what}`);
    if (this.#isClosed) throw new NorthbridgeError("NB_LIFECYCLE", "the disk is closed");
  }

  /** @param last the image that the new one stands on */
  #createAndOpen(path: string, what: string, { plain = false }: PlainOption, last?: string): DiskImage {
    const top = this.#disk.image;
    if (!isEncrypted(top) || plain) expectPlain(chainOf(top), what, { plain });
    const created = this.#create(path, last, "qcow2", plain);
    try {
      return this.#open(path, {
        format: "qcow2",
        isHandedOver: true,
        ...(top instanceof Qcow2Image ? { encryptedAs: top } : {}),
        ...(last === undefined ? {} : { allowedDirectories: [dirname(resolve(last))] }),
      });
    } catch (error) {
      rmSync(path, { force: true });
      throw error;
    } finally {
      created.close();
    }
  }

  /** Makes an image of the disk's size where there is no file yet, with the keys of the top image unless it is `plain`. */
  #create(path: string, backing: string | undefined, backingFormat: string, plain = false): NodeFile {
    const top = this.#disk.image;
    const luksHeader = plain || !(top instanceof Qcow2Image) ? undefined : top.luksHeader;
    const file = NodeFile.open(path, { create: "new" });
    try {
      createQcow2(file, {
        size: this.#disk.size,
        ...(luksHeader === undefined ? {} : { luksHeader }),
        ...(backing === undefined ? {} : { backingFile: nameFrom(path, backing), backingFormat }),
      });
      return file;
    } catch (error) {
      file.close();
      rmSync(path, { force: true });
      throw error;
    }
  }
}

/** A file as the host tells it from others. */
interface HostFile {
  readonly path: string;
  /** Undefined where there is none. */
  readonly id: string | undefined;
}

function fileAt(path: string): HostFile {
  const stat = statSync(path, { throwIfNoEntry: false });
  return { path, id: stat === undefined ? undefined : `${stat.dev}:${stat.ino}` };
}

const isSameFile = (one: HostFile, other: HostFile): boolean => one.id !== undefined && one.id === other.id;

const isEncrypted = (image: DiskImage): boolean => image instanceof Qcow2Image && image.meta.isEncrypted;

/** @throws {@link ImageError} where one of the images is encrypted and nobody said that its copy need not be */
function expectPlain(images: readonly DiskImage[], what: string, { plain }: PlainOption): void {
  const encrypted = plain === true ? undefined : images.find(isEncrypted);
  if (encrypted === undefined) return;
  throw new ImageError(
    encrypted.path,
    "request",
    `the image is encrypted, and ${what} would have its content in the clear: expected --plain`,
  );
}

function chainOf(top: DiskImage): DiskImage[] {
  const chain: DiskImage[] = [];
  for (let image: DiskImage | undefined = top; image !== undefined; image = image.backing) chain.push(image);
  return chain;
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
