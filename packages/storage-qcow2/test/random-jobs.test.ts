import { readdirSync } from "node:fs";
import { join } from "node:path";
import { NorthbridgeError } from "@northbridge/sdk";
import { expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { ManagedDisk } from "../src/graph/disk-jobs.ts";
import { ImageError } from "../src/image-error.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, Random, seeds } from "./qemu.ts";
import { contentOf, ended, expectClean, fill, Guest, make, open, same, SIZE, turn } from "./writing-guest.ts";

const CLUSTERS = [512, 4096, 65536];

/** Does something to the disk at random; what is refused by name is refused, and the disk is as it was. */
async function change(
  random: Random,
  disk: ManagedDisk,
  at: (name: string) => string,
  name: string,
): Promise<void> {
  const { jobs } = disk;
  const bitmap = random.chance(2) && disk.image instanceof Qcow2Image ? "b" : undefined;
  const act = random.pick<() => void | Promise<void>>([
    () => jobs.snapshot(at(name)),
    () => jobs.snapshot(at(name)),
    () => jobs.snapshot(at(name)),
    () => jobs.commit(),
    () => jobs.commit(),
    () => jobs.commit(random.pick(["base", "0", "1", "2"])),
    () => jobs.stream(),
    () => jobs.backup(at(name), bitmap),
    () => jobs.mirror(at(name)),
    () => disk.resize(disk.size + 65536 * random.below(3)),
  ]);
  try {
    await act();
    // Jobs and new sizes that come in between.
    if (random.chance(8)) jobs.stream();
    if (random.chance(4)) await disk.resize(disk.size + 65536);
  } catch (error) {
    if (!(error instanceof NorthbridgeError)) throw error;
  }
  for (let turns = random.below(20); turns > 0; turns -= 1) await turn();
  if (jobs.last === undefined) return;
  if (random.chance(4)) await jobs.cancel().catch(() => undefined);
  const { state, error } = await ended(disk);
  if (state === "failed") expect(error).toMatch(/at most the disk's|no more files|expected \d+/);
  if (state !== "ready") return;
  if (random.chance(3)) await jobs.cancel();
  else await jobs.complete(random.chance(2));
}

it.each(seeds(3))("whatever is done to a disk, its guest finds what it wrote, seed %i", async (seed) => {
  await inDirectory(async (directory) => {
    const random = new Random(seed);
    const at = (name: string): string => join(directory, name);
    const base = open(make(at("base"), { clusterSize: random.pick(CLUSTERS) }));
    fill(base, random);
    base.bitmaps.add("b", 65536);
    base.closeNow();
    const opener = (name: string, more: Parameters<typeof openImage>[1]): ReturnType<typeof openImage> => {
      if (random.chance(8)) throw new ImageError(name, "host", "no more files");
      return openImage(name, more);
    };
    const disk = new ManagedDisk(openImage(at("base"), { format: "qcow2" }), opener);
    await using guest = new Guest(disk, seed);
    for (let step = 0; step < 14; step += 1) await change(random, disk, at, `${step}`);
    await guest.stop();
    const { image, size } = disk;
    expect(image.size).toBe(size);
    const found = contentOf(image);
    expect(same(found.subarray(0, SIZE), guest.model)).toBe(true);
    expect(found.subarray(SIZE).every((byte) => byte === 0)).toBe(true);
    await disk.close();
    // What is locked no more is clean: all of it.
    for (const name of readdirSync(directory)) expectClean(at(name));
    const again = openImage(image.path, { format: "qcow2" });
    expect(same(contentOf(again), found)).toBe(true);
    again.closeNow();
  });
});
