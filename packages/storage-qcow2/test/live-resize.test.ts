import { join } from "node:path";
import { expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { backup } from "../src/graph/backup-job.ts";
import { ManagedDisk } from "../src/graph/disk-jobs.ts";
import { stream } from "../src/graph/stream-job.ts";
import { exportImage } from "../src/nbd/nbd-export.ts";
import { NbdServer } from "../src/nbd/nbd-server.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, Random } from "./qemu.ts";
import { contentOf, ended, expectClean, fill, make, open, same, SIZE } from "./writing-guest.ts";

const BIGGER = 2 * SIZE;
const HAS_JOB = "the disk has a job";
const GETS_SIZE = "the disk is getting another size";

type At = (name: string) => string;

/** An overlay over an image with data, as a disk. */
async function onOverlay(use: (disk: ManagedDisk, at: At) => Promise<void>): Promise<void> {
  await inDirectory(async (directory) => {
    const at: At = (name) => join(directory, name);
    const base = open(make(at("base")));
    fill(base, new Random(1));
    base.closeNow();
    make(at("top"), { backingFile: "base", backingFormat: "qcow2" });
    const disk = new ManagedDisk(openImage(at("top"), { format: "qcow2" }), openImage);
    await use(disk, at);
    await disk.close();
    expectClean(at("top"));
  });
}

const jobs: [what: string, begin: (disk: ManagedDisk, at: At) => void | Promise<void>][] = [
  ["commit", (disk) => disk.jobs.commit()],
  ["stream", (disk) => disk.jobs.stream()],
  ["backup", (disk, at) => disk.jobs.backup(at("copy"))],
  ["mirror", (disk, at) => disk.jobs.mirror(at("copy"))],
];

it.each(jobs)("a disk with a %s that has just begun does not get another size", async (_, begin) => {
  await onOverlay(async (disk, at) => {
    const expected = contentOf(disk.image);
    const begun = begin(disk, at);
    const resized = disk.resize(BIGGER);
    await expect(resized).rejects.toThrow(HAS_JOB);
    await begun;
    expect((await ended(disk)).state).toMatch(/^done|ready$/);
    if (disk.jobs.last?.state === "ready") await disk.jobs.complete(true);
    expect(disk.size).toBe(SIZE);
    expect(same(contentOf(disk.image), expected)).toBe(true);
    await disk.resize(BIGGER);
    expect(disk.image.size).toBe(BIGGER);
  });
});

it.each(jobs)("a disk that is just getting another size begins no %s", async (_, begin) => {
  await onOverlay(async (disk, at) => {
    const resized = disk.resize(BIGGER);
    const begun = (async () => begin(disk, at))();
    const again = disk.resize(SIZE);
    expect(() => disk.jobs.snapshot(at("over"))).toThrow(GETS_SIZE);
    await expect(begun).rejects.toThrow(GETS_SIZE);
    await expect(again).rejects.toThrow(GETS_SIZE);
    await resized;
    expect(disk.size).toBe(BIGGER);
    const expected = contentOf(disk.image);
    await begin(disk, at);
    expect((await ended(disk)).error).toBe(undefined);
    expect(disk.image.size).toBe(BIGGER);
    expect(same(contentOf(disk.image), expected)).toBe(true);
  });
});

it("a disk does not get another size while its mirror waits for a server", async () => {
  await onOverlay(async (disk, at) => {
    const target = open(make(at("there")));
    const server = await NbdServer.listen(at("s"), { exports: [exportImage(target, "")] });
    const begun = disk.jobs.mirror(`nbd:unix:${at("s")}`);
    await expect(disk.resize(BIGGER)).rejects.toThrow(HAS_JOB);
    await begun;
    expect(await ended(disk)).toMatchObject({ state: "ready", error: undefined });
    await disk.jobs.cancel();
    await disk.resize(BIGGER);
    await server.close();
    target.closeNow();
  });
});

it("jobs without a manager and a new size keep out of each other's way, too", async () => {
  await onOverlay(async (disk, at) => {
    const bitmap = disk.image instanceof Qcow2Image ? disk.image.bitmaps.add("b", 65536) : undefined;
    await disk.write(0, [new Uint8Array(512).fill(3)]);
    const streamed = stream(disk);
    await expect(disk.resize(BIGGER)).rejects.toThrow(HAS_JOB);
    await streamed;
    const target = open(make(at("copy"), { size: BIGGER }));
    const resized = disk.resize(BIGGER);
    await expect(backup(disk, target, { bitmap: bitmap!, isFull: true })).rejects.toThrow(GETS_SIZE);
    await resized;
    expect(bitmap?.dirtyBytes(SIZE)).toBe(65536);
    await backup(disk, target);
    expect(same(contentOf(target), contentOf(disk.image))).toBe(true);
    target.closeNow();
  });
});
