import type * as NodeFs from "node:fs";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { FileBlock } from "./file-block.ts";

const failure = vi.hoisted((): { next: Error | null } => ({ next: null }));

/** A host whose disk fails once and says nothing of it afterwards, as Linux does. */
vi.mock("node:fs", async (original) => {
  const fs = await original<typeof NodeFs>();
  const take = (): Error | null => {
    const error = failure.next;
    failure.next = null;
    return error;
  };
  return {
    ...fs,
    fdatasync: (_fd: number, done: (error: Error | null) => void) => done(take()),
    fdatasyncSync: () => {
      const error = take();
      if (error !== null) throw error;
    },
  };
});

it.each(["realtime", "virtual"] as const)(
  "says for good that a flush failed, under a %s clock",
  async (kind) => {
    const directory = mkdtempSync(join(tmpdir(), "northbridge-file-block-"));
    try {
      const path = join(directory, "disk.raw");
      writeFileSync(path, new Uint8Array(4096));
      const disk = await FileBlock.open(path, { readOnly: false, clock: { kind } });
      const bytes = new Uint8Array(512).fill(7);
      await disk.write(0, [bytes]);
      await disk.flush();
      await disk.write(512, [bytes]);
      failure.next = Object.assign(new Error("EIO: i/o error"), { code: "EIO" });
      await expect(disk.flush()).rejects.toThrow("disk.raw: flush: ");
      for (const again of [
        () => disk.flush(),
        () => disk.write(0, [bytes]),
        () => disk.write(0, [new Uint8Array(4096)]),
        () => disk.writeZeroes(0, 512, true),
      ]) {
        await expect(again()).rejects.toThrow(
          /disk\.raw: .*: what was written may be lost since a flush failed$/,
        );
      }
      const found = new Uint8Array(512);
      await disk.read(512, [found]);
      expect(found).toEqual(bytes);
      await disk.close();
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
);

it("has written all of a request before it closes, and nothing behind that", async () => {
  const directory = mkdtempSync(join(tmpdir(), "northbridge-file-block-"));
  try {
    const [path, other] = [join(directory, "disk.raw"), join(directory, "other")];
    const size = 2100 * 512;
    writeFileSync(path, new Uint8Array(size));
    writeFileSync(other, new Uint8Array(size));
    const disk = await FileBlock.open(path, { readOnly: false });
    const parts = Array.from({ length: 2100 }, () => new Uint8Array(512).fill(7)); // three calls of the host
    const written = disk.write(0, parts);
    await disk.close();
    const fd = openSync(other, "r+"); // the number that has become free
    await written;
    await expect(disk.write(0, parts)).rejects.toThrow("disk.raw: write: it is closed");
    closeSync(fd);
    expect([
      readFileSync(path).every((byte) => byte === 7),
      readFileSync(other).every((byte) => byte === 0),
    ]).toEqual([true, true]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
