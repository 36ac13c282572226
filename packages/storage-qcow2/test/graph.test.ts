import { join } from "node:path";
import type { BlockBackend } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { NodeFile } from "../src/file/node-file.ts";
import { backup } from "../src/graph/backup-job.ts";
import { commit } from "../src/graph/commit-job.ts";
import { LiveDisk } from "../src/graph/live-disk.ts";
import { MirrorJob } from "../src/graph/mirror-job.ts";
import { stream } from "../src/graph/stream-job.ts";
import { exportImage } from "../src/nbd/nbd-export.ts";
import { NbdClient } from "../src/nbd/nbd-client.ts";
import { NbdServer } from "../src/nbd/nbd-server.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, Random, seeds } from "./qemu.ts";
import { contentOf, expectClean, fill, Guest, make, open, same, SIZE } from "./writing-guest.ts";

const guestSeeds = seeds(2);

describe("a disk under a guest that writes", () => {
  it.each(guestSeeds)("is mirrored, and the guest goes on with the copy, seed %i", async (seed) => {
    await inDirectory(async (directory) => {
      const source = open(make(join(directory, "a")));
      fill(source, new Random(seed));
      const disk = new LiveDisk(source);
      await using guest = new Guest(disk, seed);
      const target = open(make(join(directory, "b"), { clusterSize: 65536 }));
      const job = new MirrorJob(disk, target, { targetIsZero: true });
      await job.run();
      const before = guest.writes;
      await job.complete(true);
      while (guest.writes < before + 10) await new Promise((resolve) => setImmediate(resolve));
      await guest.stop();
      expect(disk.image).toBe(target);
      expect(same(contentOf(target), guest.model)).toBe(true);
      source.closeNow();
      await disk.close();
      expectClean(join(directory, "b"));
    });
  });

  it("is mirrored to an NBD server", async () => {
    await inDirectory(async (directory) => {
      const target = open(make(join(directory, "b")));
      const server = await NbdServer.listen(join(directory, "s"), { exports: [exportImage(target, "")] });
      const client = await NbdClient.connect({ path: join(directory, "s") });
      const source = open(make(join(directory, "a")));
      fill(source, new Random(1));
      const disk = new LiveDisk(source);
      await using guest = new Guest(disk, 1);
      const job = new MirrorJob(disk, client);
      await job.run();
      await job.complete(true);
      await guest.stop();
      expect(same(contentOf(target), guest.model)).toBe(true);
      source.closeNow();
      await disk.close();
      await server.close();
    });
  });

  it.each(guestSeeds)("is backed up as it was, then by what changed, seed %i", async (seed) => {
    await inDirectory(async (directory) => {
      const source = open(make(join(directory, "a")));
      fill(source, new Random(seed));
      const bitmap = source.bitmaps.add("since", 65536);
      const disk = new LiveDisk(source);
      await using guest = new Guest(disk, seed);
      const states: Uint8Array[] = [];
      for (let number = 0; number < 3; number += 1) {
        const below = number === 0 ? {} : { backingFile: `${number - 1}`, backingFormat: "qcow2" };
        const target = open(make(join(directory, `${number}`), below));
        if (number === 0) bitmap.clear();
        states.push(contentOf(source));
        await backup(disk, target, number === 0 ? {} : { bitmap });
        target.closeNow();
      }
      await guest.stop();
      expect(same(contentOf(source), guest.model)).toBe(true);
      for (const [number, state] of states.entries()) {
        const copy = open(join(directory, `${number}`), { readOnly: true });
        expect(same(contentOf(copy), state), `backup ${number}`).toBe(true);
        copy.closeNow();
        expectClean(join(directory, `${number}`));
      }
      await disk.close();
      expectClean(join(directory, "a"));
    });
  });

  it("keeps its bits when a backup fails, and does not let the guest suffer", async () => {
    await inDirectory(async (directory) => {
      const source = open(make(join(directory, "a")));
      const bitmap = source.bitmaps.add("since", 65536);
      fill(source, new Random(2));
      const dirty = bitmap.dirtyBytes(SIZE);
      const full: BlockBackend = {
        size: SIZE,
        blockSize: 512,
        readOnly: false,
        read: () => Promise.resolve(),
        write: () => Promise.reject(new Error("no space")),
        flush: () => Promise.resolve(),
        close: () => Promise.resolve(),
      };
      const disk = new LiveDisk(source);
      await using guest = new Guest(disk, 2);
      await expect(backup(disk, full, { bitmap })).rejects.toThrow("no space");
      await guest.stop();
      expect(bitmap.dirtyBytes(SIZE)).toBeGreaterThanOrEqual(dirty);
      expect(same(contentOf(source), guest.model)).toBe(true);
      await disk.close();
    });
  });

  it.each(guestSeeds)("takes overlays, and commits and streams them, seed %i", async (seed) => {
    await inDirectory(async (directory) => {
      const base = open(make(join(directory, "a")));
      fill(base, new Random(seed));
      const disk = new LiveDisk(base);
      await using guest = new Guest(disk, seed);
      const overlay = (name: string): Qcow2Image => {
        const below = disk.image;
        make(join(directory, name), { backingFile: below.path.split("/").at(-1)!, backingFormat: "qcow2" });
        const image = Qcow2Image.open(NodeFile.open(join(directory, name)), { backing: below });
        disk.snapshot(image);
        return image;
      };
      const turns = async (): Promise<void> => {
        const before = guest.writes;
        while (guest.writes < before + 15) await new Promise((resolve) => setImmediate(resolve));
      };
      await turns();
      const asOfSnapshot = contentOf(base);
      const top = overlay("b");
      await turns();
      expect(same(contentOf(base), asOfSnapshot)).toBe(true);
      const second = overlay("c");
      await turns();
      await commit(disk, top);
      expect(disk.image).toBe(top);
      expect(second.header.backingFile).toBe("b");
      await turns();
      await stream(disk);
      expect(top.backing).toBe(undefined);
      await turns();
      await guest.stop();
      expect(same(contentOf(top), guest.model)).toBe(true);
      await disk.close();
      expectClean(join(directory, "b"));
      const alone = open(join(directory, "b"), { readOnly: true });
      expect(alone.header.backingFile).toBe(undefined);
      expect(same(contentOf(alone), guest.model)).toBe(true);
      alone.closeNow();
      const old = open(join(directory, "a"), { readOnly: true });
      expect(same(contentOf(old), asOfSnapshot)).toBe(true);
      old.closeNow();
    });
  });

  it("commits down to the first image", async () => {
    await inDirectory(async (directory) => {
      make(join(directory, "a"));
      make(join(directory, "b"), { backingFile: "a", backingFormat: "qcow2" });
      const top = open(join(directory, "b"), { writableBacking: true });
      const base = top.backing!;
      fill(base, new Random(1));
      fill(top, new Random(2));
      const disk = new LiveDisk(top);
      await using guest = new Guest(disk, 9);
      await commit(disk, base);
      await guest.stop();
      expect(same(contentOf(base), guest.model)).toBe(true);
      await disk.close();
      expectClean(join(directory, "a"));
    });
  });
});
