import { join } from "node:path";
import { expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { type JobReport, ManagedDisk } from "../src/graph/disk-jobs.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { exportImage } from "../src/nbd/nbd-export.ts";
import { NbdServer } from "../src/nbd/nbd-server.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, Random, seeds } from "./qemu.ts";
import { contentOf, expectClean, fill, Guest, make, open, same } from "./writing-guest.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function ended(disk: ManagedDisk): Promise<JobReport> {
  for (;;) {
    const { last } = disk.jobs;
    if (last === undefined) throw new Error("no job");
    if (last.state !== "running") return last;
    await turn();
  }
}

const managed = (path: string): ManagedDisk =>
  new ManagedDisk(openImage(path, { format: "qcow2" }), (name, more) => openImage(name, more));

/** Lets the guest write, and stop in between, so that what it wrote can be compared. */
async function some(guest: Guest, writes = 20): Promise<void> {
  const until = guest.writes + writes;
  while (guest.writes < until) await turn();
}

it("an encrypted disk is not copied in the clear", async () => {
  await inDirectory(async (directory) => {
    const passphrase = new TextEncoder().encode("open sesame");
    const path = join(directory, "locked");
    const file = NodeFile.open(path, { create: true });
    createQcow2(file, { size: 1 << 20, encryption: { passphrase, iterationMs: 1 } });
    file.close();
    const disk = new ManagedDisk(openImage(path, { format: "qcow2", passphrase }), openImage);
    for (const copy of ["snapshot", "backup"] as const)
      expect(() => disk.jobs[copy](join(directory, copy))).toThrow("the disk is encrypted");
    await disk.close();
  });
});

it.each(seeds(2))(
  "a disk is snapshot, backed up, committed, mirrored and streamed under its guest, seed %i",
  async (seed) => {
    await inDirectory(async (directory) => {
      const at = (name: string): string => join(directory, name);
      const base = open(make(at("base")));
      fill(base, new Random(seed));
      base.closeNow();
      make(at("top"), { backingFile: "base", backingFormat: "qcow2" });
      const disk = managed(at("top"));
      await using guest = new Guest(disk, seed);

      const { image } = disk.jobs;
      if (!(image instanceof Qcow2Image)) throw new Error("no qcow2 image");
      image.bitmaps.add("b", 65536);
      disk.jobs.backup(at("full"), "b");
      await some(guest);
      expect(await ended(disk)).toMatchObject({ state: "done", what: `backup to ${at("full")}` });

      // Nobody writes while the incremental backup is taken, so that it can be compared with the disk.
      await some(guest);
      await guest.stop();
      const before = guest.model.slice();
      disk.jobs.backup(at("more"), "b", at("full"));
      expect(await ended(disk)).toMatchObject({ state: "done" });
      const copy = open(at("more"), { readOnly: true });
      expect(same(contentOf(copy), before)).toBe(true);
      copy.closeNow();

      disk.jobs.snapshot(at("over"));
      await using second = new Guest(disk, seed + 1);
      await some(second);
      const below = open(at("top"), { readOnly: true, forceShare: true });
      expect(same(contentOf(below), before)).toBe(true);
      below.closeNow();
      disk.jobs.commit("base");
      await some(second);
      expect(await ended(disk)).toMatchObject({ state: "done", error: undefined });
      expect(disk.image.path).toBe(at("base"));
      expect(disk.image.readOnly).toBe(false);

      disk.jobs.snapshot(at("again"));
      disk.jobs.stream();
      await some(second);
      expect(await ended(disk)).toMatchObject({ state: "done", error: undefined });
      expect(disk.image.backing).toBe(undefined);

      await disk.jobs.mirror(at("copy"));
      await some(second);
      expect(await ended(disk)).toMatchObject({ state: "ready", error: undefined });
      await some(second);
      await disk.jobs.complete(true);
      expect(disk.jobs.last).toMatchObject({ state: "done" });
      await some(second);
      await second.stop();
      expect(disk.image.path).toBe(at("copy"));
      expect(same(contentOf(disk.image), second.model)).toBe(true);
      await disk.close();
      for (const name of ["base", "full", "more", "again", "copy"]) expectClean(at(name));
    });
  },
);

it("a disk goes on at an NBD server, and a job is given up when told so", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    make(at("a"));
    const disk = managed(at("a"));
    fill(disk.image, new Random(5));
    const expected = contentOf(disk.image);
    await disk.jobs.mirror(at("given-up"));
    expect(() => disk.jobs.stream()).toThrow(`the disk has a job already: mirror to ${at("given-up")}`);
    await expect(disk.resize(1 << 22)).rejects.toThrow("the disk has a job");
    await disk.jobs.cancel();
    expect(disk.jobs.last).toMatchObject({ state: "cancelled" });
    await expect(disk.jobs.cancel()).rejects.toThrow("no job is under way");
    await expect(disk.jobs.complete(true)).rejects.toThrow("no mirror is ready");
    expect(() => disk.jobs.commit()).toThrow("the image stands on nothing");
    expect(() => disk.jobs.snapshot(at("a"))).toThrow("the file is there already");

    const target = open(make(at("b")));
    const server = await NbdServer.listen(at("s"), { exports: [exportImage(target, "there")] });
    await disk.jobs.mirror(`nbd:unix:${at("s")}:exportname=there`);
    expect(await ended(disk)).toMatchObject({ state: "ready" });
    await disk.jobs.complete(true);
    const found = new Uint8Array(expected.length);
    await disk.read(0, [found]);
    expect(same(found, expected)).toBe(true);
    expect(() => disk.jobs.snapshot(at("c"))).toThrow("not on an image any more");
    await disk.close();
    await server.close();
    target.closeNow();
    expectClean(at("b"));
  });
});
