import { expect } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import type { DiskImage } from "../src/disk-image.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { type JobReport, ManagedDisk } from "../src/graph/disk-jobs.ts";
import type { LiveDisk } from "../src/graph/live-disk.ts";
import { createQcow2, type Qcow2CreateOptions } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { qemu, qemuImg, Random } from "./qemu.ts";

/** Bytes of a disk. */
export const SIZE: number = 2 << 20;

export function make(path: string, options: Partial<Qcow2CreateOptions> = {}): string {
  const file = NodeFile.open(path, { create: true });
  createQcow2(file, { size: SIZE, clusterSize: 4096, ...options });
  file.close();
  return path;
}

export const open = (path: string, options: Parameters<typeof openImage>[1] = {}): Qcow2Image => {
  const image = openImage(path, { format: "qcow2", ...options });
  if (!(image instanceof Qcow2Image)) throw new Error(`${path} is no qcow2 image`);
  return image;
};

export const contentOf = (image: DiskImage): Uint8Array => {
  const bytes = new Uint8Array(image.size);
  image.readAt(0, bytes);
  return bytes;
};

export const fill = (image: DiskImage, random: Random, times = 30): void => {
  for (let index = 0; index < times; index += 1) {
    image.writeAt(512 * random.below(4000), random.bytes(512 * (1 + random.below(90))));
  }
};

/** The disk of a qcow2 image, as a machine has it. */
export const managed = (path: string): ManagedDisk =>
  new ManagedDisk(openImage(path, { format: "qcow2" }), (name, more) => openImage(name, more));

/** A guest that writes, zeroes and discards until it is stopped, and knows what it must find. */
export class Guest implements AsyncDisposable {
  readonly model: Uint8Array;
  readonly #disk: LiveDisk;
  readonly #random: Random;
  #stopped = false;
  writes = 0;
  readonly #running: Promise<void>[];

  constructor(disk: LiveDisk, seed: number) {
    this.#disk = disk;
    this.#random = new Random(seed);
    this.model = contentOf(disk.image);
    this.#running = [this.#run(0), this.#run(1)];
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  /** A test that fails must not leave it writing. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await Promise.allSettled(this.#running);
  }

  /** Each of two runs at the same time has half of the disk, so that what they leave is known. */
  async #run(half: number): Promise<void> {
    const base = half * (SIZE / 2);
    while (!this.#stopped) {
      const random = this.#random;
      const offset = base + 512 * random.below(1900);
      const length = 512 * (1 + random.below(140));
      if (random.chance(5)) {
        this.model.fill(0, offset, offset + length);
        await this.#disk.writeZeroes(offset, length, random.chance(2));
      } else {
        const bytes = random.bytes(length);
        this.model.set(bytes, offset);
        await this.#disk.write(offset, [bytes.subarray(0, 512), bytes.subarray(512)]);
      }
      this.writes += 1;
      if (random.chance(3)) await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** Lets others have a turn. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** How the job of a disk ended, or that it is ready. */
export async function ended(disk: ManagedDisk): Promise<JobReport> {
  for (;;) {
    const { last } = disk.jobs;
    if (last === undefined) throw new Error("no job");
    if (last.state !== "running") return last;
    await turn();
  }
}

export const expectClean = (path: string): void => {
  if (qemuImg === undefined) return;
  const check = qemu("qemu-img", "check", "-f", "qcow2", path);
  expect(check, check.out + check.err).toMatchObject({ status: 0 });
};

export const same = (found: Uint8Array, expected: Uint8Array): boolean =>
  Buffer.compare(found, expected) === 0;

/** Lets the guest write, and stop in between, so that what it wrote can be compared. */
export async function some(guest: Guest, writes = 20): Promise<void> {
  const until = guest.writes + writes;
  while (guest.writes < until) await turn();
}
