import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { ManagedDisk } from "../src/graph/disk-jobs.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, qemu, qemuImg, Random } from "./qemu.ts";
import {
  contentOf,
  ended,
  expectClean,
  fill,
  make,
  managed,
  open,
  same,
  SIZE,
  turn,
} from "./writing-guest.ts";

it("bitmaps follow the disk to an overlay, back into its base, and to a copy", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const disk = managed(make(at("a")));
    const bitmaps = (): [name: string, dirty: number][] => {
      if (!(disk.image instanceof Qcow2Image)) throw new Error("no qcow2 image");
      const { bitmaps } = disk.image;
      return bitmaps.list().map(({ name }) => [name, bitmaps.get(name).dirtyBytes(SIZE)]);
    };
    if (disk.image instanceof Qcow2Image) disk.image.bitmaps.add("b", 65536);
    const write = (chunk: number): Promise<void> => disk.write(chunk * 65536, [new Uint8Array(512).fill(1)]);
    await write(0);
    disk.jobs.snapshot(at("over"));
    await write(1);
    expect(bitmaps()).toEqual([["b", 2 * 65536]]);
    disk.jobs.backup(at("full"), "b");
    await ended(disk);
    expect(bitmaps()).toEqual([["b", 0]]);
    await write(2);
    disk.jobs.commit();
    expect(await ended(disk)).toMatchObject({ state: "done" });
    expect(disk.location).toBe(at("a"));
    expect(bitmaps()).toEqual([["b", 65536]]);
    await disk.jobs.mirror(at("copy"));
    await ended(disk);
    await write(3);
    await disk.jobs.complete(true);
    expect(bitmaps()).toEqual([["b", 2 * 65536]]);
    const expected = contentOf(disk.image);
    disk.jobs.backup(at("more"), "b", at("full"));
    await ended(disk);
    await disk.close();
    const backup = open(at("more"), { readOnly: true });
    expect(same(contentOf(backup), expected)).toBe(true);
    backup.closeNow();
    for (const name of ["a", "over", "copy"]) expectClean(at(name));
  });
});

it("a backup that ends early leaves no target, and the next one has all that it would have had", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const disk = managed(make(at("a")));
    const { image } = disk.jobs;
    if (!(image instanceof Qcow2Image)) throw new Error("no qcow2 image");
    image.bitmaps.add("b", 65536);
    fill(image, new Random(1));
    disk.jobs.backup(at("full"), "b");
    await turn();
    await disk.jobs.cancel();
    expect(disk.jobs.last).toMatchObject({ state: "cancelled" });
    expect(existsSync(at("full"))).toBe(false);
    disk.jobs.backup(at("full"), "b");
    expect(await ended(disk)).toMatchObject({ state: "done" });
    await disk.write(0, [new Uint8Array(65536).fill(77)]);
    disk.jobs.backup(at("more"), "b", at("full"));
    await disk.jobs.cancel();
    expect(existsSync(at("more"))).toBe(false);
    disk.jobs.backup(at("more"), "b", at("full"));
    expect(await ended(disk)).toMatchObject({ state: "done" });
    const copy = open(at("more"), { readOnly: true });
    expect(same(contentOf(copy), contentOf(image))).toBe(true);
    copy.closeNow();
    await disk.close();
  });
});

it("a backup whose target does not close is none, and the next one has what it had", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    let isFailing = false;
    const disk = new ManagedDisk(openImage(make(at("a")), { format: "qcow2" }), (name, more) => {
      const image = openImage(name, more);
      if (isFailing && more.readOnly !== true)
        image.close = () => Promise.reject(new Error("EIO at the end"));
      return image;
    });
    const { image } = disk.jobs;
    if (!(image instanceof Qcow2Image)) throw new Error("no qcow2 image");
    image.bitmaps.add("b", 65536);
    fill(image, new Random(1));
    disk.jobs.backup(at("full"), "b");
    expect(await ended(disk)).toMatchObject({ state: "done" });
    await disk.write(0, [new Uint8Array(65536).fill(77)]);
    isFailing = true;
    disk.jobs.backup(at("more"), "b", at("full"));
    expect(await ended(disk)).toMatchObject({ state: "failed", error: "EIO at the end" });
    isFailing = false;
    disk.jobs.backup(at("most"), "b", at("full"));
    expect(await ended(disk)).toMatchObject({ state: "done" });
    const copy = open(at("most"), { readOnly: true });
    expect(same(contentOf(copy), contentOf(image))).toBe(true);
    copy.closeNow();
    await disk.close();
  });
});

it("what cannot be the last backup is refused, and leaves the bitmap alone", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    make(at("base"));
    const disk = managed(make(at("a"), { backingFile: "base", backingFormat: "qcow2" }));
    const { image } = disk.jobs;
    if (!(image instanceof Qcow2Image)) throw new Error("no qcow2 image");
    image.bitmaps.add("b", 65536);
    disk.jobs.backup(at("one"), "b");
    await ended(disk);
    disk.jobs.backup(at("two"), "b", at("one"));
    await ended(disk);
    await disk.write(0, [new Uint8Array(65536).fill(5)]);
    make(at("other"));
    make(at("long"), { size: SIZE * 2 });
    const next = (last: string) => () => disk.jobs.backup(at("next"), "b", at(last));
    expect(next("base")).toThrow("cannot be the last backup: the disk stands on it");
    expect(next("long")).toThrow(`cannot be the last backup: it has ${SIZE * 2} bytes`);
    expect(next("one")).toThrow(`cannot be the last backup: with bitmap 'b' that is ${at("two")}`);
    expect(next("other")).toThrow("cannot be the last backup");
    expect(next("none")).toThrow("no such file");
    expect(existsSync(at("next"))).toBe(false);
    expect(image.bitmaps.get("b").dirtyBytes(SIZE)).toBe(65536);
    // Moved or copied away it is believed to be what it is said to be.
    renameSync(at("two"), at("moved"));
    next("moved")();
    expect(await ended(disk)).toMatchObject({ state: "done" });
    await disk.close();
  });
});

it("bitmaps of a disk that grew before a power failure are inconsistent, and the image opens", async () => {
  await inDirectory((directory) => {
    const path = make(join(directory, "a"));
    const image = open(path);
    image.bitmaps.add("on", 65536);
    image.bitmaps.add("off", 65536).isEnabled = false;
    image.closeNow();
    const grown = open(path);
    grown.resize(SIZE * 100);
    grown.abandon();
    if (qemuImg !== undefined) expect(qemu("qemu-img", "info", path).out).toContain("in-use");
    const after = open(path);
    after.writeAt(0, new Uint8Array(512));
    expect(after.bitmaps.list().map(({ name, isInconsistent }) => [name, isInconsistent])).toEqual([
      ["on", true],
      ["off", true],
    ]);
    after.closeNow();
  });
});
