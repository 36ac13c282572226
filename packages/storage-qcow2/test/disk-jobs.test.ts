import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { ManagedDisk } from "../src/graph/disk-jobs.ts";
import { ImageError } from "../src/image-error.ts";
import { exportImage } from "../src/nbd/nbd-export.ts";
import { NbdServer } from "../src/nbd/nbd-server.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, qemu, qemuImg, Random, seeds } from "./qemu.ts";
import {
  contentOf,
  ended,
  expectClean,
  fill,
  Guest,
  make,
  managed,
  open,
  same,
  SIZE,
  some,
  turn,
} from "./writing-guest.ts";

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
    expect(existsSync(at("given-up"))).toBe(false); // it has a part of the disk, and looks like all of it
    await expect(disk.jobs.cancel()).rejects.toThrow("no job is under way");
    await expect(disk.jobs.complete(true)).rejects.toThrow("no mirror is ready");
    expect(() => disk.jobs.commit()).toThrow("the image stands on nothing");
    expect(() => disk.jobs.snapshot(at("a"))).toThrow("cannot open: file already exists");
    for (const name of ["nbd:unix:", `nbd+unix:///?socket=${at("s")}`, "nbd:localhost"]) {
      await expect(disk.jobs.mirror(name)).rejects.toThrow(`expected nbd:unix:SOCKET or nbd:HOST:PORT`);
      expect(existsSync(name)).toBe(false);
    }

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

it("a mirror that waits for its server is the only job, and its target is closed when the disk is", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const disk = managed(make(at("a")));
    const target = open(make(at("b")));
    const server = await NbdServer.listen(at("s"), { exports: [exportImage(target, "")] });
    const begun = disk.jobs.mirror(`nbd:unix:${at("s")}`);
    expect(() => disk.jobs.backup(at("c"))).toThrow(
      `the disk has a job already: mirror to nbd:unix:${at("s")}`,
    );
    await expect(disk.jobs.mirror(at("d"))).rejects.toThrow("the disk has a job already");
    await begun;
    await ended(disk);
    // The disk is closed while the guest is put on the target.
    const completing = disk.jobs.complete(true);
    await disk.close();
    await completing.catch(() => undefined);
    expect(disk.jobs.last?.state).toMatch(/^done|cancelled$/);
    await expect(disk.jobs.mirror(at("e"))).rejects.toThrow("the disk is closed");

    const other = managed(make(at("f")));
    const waiting = other.jobs.mirror(`nbd:unix:${at("s")}`);
    await other.close();
    await expect(waiting).rejects.toThrow("the disk was closed meanwhile");
    const small = managed(make(at("g"), { size: SIZE * 2 }));
    await small.jobs.mirror(`nbd:unix:${at("s")}`);
    expect(await ended(small)).toMatchObject({
      state: "failed",
      error: expect.stringContaining("the target has"),
    });
    await small.close();
    // Nobody holds on to the server.
    while (server.connections > 0) await turn();
    await server.close();
    target.closeNow();
  });
});

it("what a failing job made or closed is put back", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    make(at("base"));
    make(at("top"), { backingFile: "base", backingFormat: "qcow2" });
    let refuses = false;
    const disk = new ManagedDisk(openImage(at("top"), { format: "qcow2" }), (name, more) => {
      if (refuses) throw new ImageError(name, "locked", "somebody else has it");
      return openImage(name, more);
    });
    fill(disk.image, new Random(1));
    const expected = contentOf(disk.image);
    refuses = true;
    expect(() => disk.jobs.commit()).toThrow("somebody else has it");
    expect(() => disk.jobs.backup(at("new"))).toThrow("somebody else has it");
    expect(existsSync(at("new"))).toBe(false);
    expect(same(contentOf(disk.image), expected)).toBe(true);
    refuses = false;
    disk.jobs.commit();
    expect(await ended(disk)).toMatchObject({ state: "done" });
    expect(same(contentOf(disk.image), expected)).toBe(true);
    await disk.close();
  });
});

const readOf = (format: string, path: string): string =>
  qemu("qemu-io", "-r", "-f", format, "-c", "read 0 512", path).err;

it.skipIf(qemuImg === undefined)(
  "what a snapshot leaves below can be read by others, and written by nobody",
  async () => {
    await inDirectory(async (directory) => {
      const at = (name: string): string => join(directory, name);
      for (const format of ["qcow2", "raw"] as const) {
        const name = `base.${format}`;
        if (format === "qcow2") make(at(name));
        else writeFileSync(at(name), new Uint8Array(SIZE));
        const disk = new ManagedDisk(openImage(at(name), { format }), (path, more) => openImage(path, more));
        fill(disk.image, new Random(3));
        const expected = contentOf(disk.image);
        // Of a raw image QEMU reads what others may write.
        if (format === "qcow2") expect(readOf(format, at(name))).toContain("lock");
        disk.jobs.snapshot(at(`top.${format}`));
        fill(disk.image, new Random(4));
        expect(qemu("qemu-img", "convert", "-f", format, "-O", "raw", at(name), at("out"))).toMatchObject({
          status: 0,
        });
        expect(same(readFileSync(at("out")), expected)).toBe(true);
        expect(qemu("qemu-io", "-f", format, "-c", "write 0 512", at(name)).err).toContain("lock");
        disk.jobs.commit();
        expect(await ended(disk)).toMatchObject({ state: "done" });
        // Of a raw image QEMU reads what others may write.
        if (format === "qcow2") expect(readOf(format, at(name))).toContain("lock");
        await disk.close();
      }
    });
  },
);

it("tells that the end of the disk ended a job", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const cancelled: string[] = [];
    const disk = new ManagedDisk(
      openImage(make(at("a")), { format: "qcow2" }),
      (name, more) => openImage(name, more),
      ({ what }) => cancelled.push(what),
    );
    disk.jobs.backup(at("b"));
    await disk.close();
    expect(cancelled).toEqual([`backup to ${at("b")}`]);
    expect(existsSync(at("b"))).toBe(false);
  });
});

function firstByte(path: string): number | undefined {
  const image = open(path);
  const [first] = contentOf(image);
  image.closeNow();
  return first;
}

it("a commit whose overlay cannot be closed is done, and says what failed", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const disk = managed(make(at("a")));
    disk.jobs.snapshot(at("b"));
    const overlay = disk.image;
    if (!(overlay instanceof Qcow2Image)) throw new Error("the disk is on no overlay");
    await disk.write(0, [new Uint8Array(512).fill(7)]);
    const close = overlay.closeAlone.bind(overlay);
    overlay.closeAlone = () => {
      close();
      throw new ImageError(at("b"), "host", "no space");
    };
    disk.jobs.commit();
    expect(await ended(disk)).toMatchObject({ state: "done", error: expect.stringContaining("no space") });
    expect(disk.image.path).toBe(at("a"));
    await disk.close();
    expect(firstByte(at("a"))).toBe(7);
  });
});

it("the guest's disk keeps what was written where a mirror's target cannot be closed", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const disk = new ManagedDisk(openImage(make(at("a")), { format: "qcow2" }), (name, more) => {
      const image = openImage(name, more);
      if (name === at("b")) image.close = () => Promise.reject(new ImageError(name, "host", "no space"));
      return image;
    });
    await disk.jobs.mirror(at("b"));
    while (disk.jobs.last?.state !== "ready") await turn();
    await disk.write(0, [new Uint8Array(512).fill(5)]);
    await expect(disk.close()).rejects.toThrow("no space");
    expect(firstByte(at("a"))).toBe(5); // and its lock is free
  });
});
