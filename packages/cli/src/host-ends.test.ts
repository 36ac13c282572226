import { mkdtempDisposable, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RingBufferBackend, VirtualClock } from "@northbridge/core";
import type { BlockBackend } from "@northbridge/core/contracts";
import { close, createMemfd, SharedMapping } from "@northbridge/linux";
import { expect, it } from "vitest";
import { fileDisk } from "./host-ends.ts";

it("gives the host back what a guest discards, and reads zeroes there", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-disk-"));
  const path = join(directory.path, "disk.img");
  const MIB = 1 << 20;
  await writeFile(path, new Uint8Array(4 * MIB).fill(0xa5));
  const disk = await openDisk(path);
  const before = (await stat(path)).blocks;
  await disk.discard?.(MIB, MIB);
  await disk.writeZeroes?.(2 * MIB, MIB, true);
  await disk.writeZeroes?.(0, 65_536, false);
  const after = await stat(path);
  expect(after.size).toBe(4 * MIB);
  expect(before - after.blocks).toBe((2 * MIB) / 512);
  const bytes = await readFile(path);
  expect(bytes.subarray(0, 65_536).every((byte) => byte === 0)).toBe(true);
  expect(bytes.subarray(65_536, MIB).every((byte) => byte === 0xa5)).toBe(true);
  expect(bytes.subarray(MIB, 3 * MIB).every((byte) => byte === 0)).toBe(true);
  expect(bytes.subarray(3 * MIB).every((byte) => byte === 0xa5)).toBe(true);
  await disk.close();
});

it("makes a file guest memory, all of which has storage, and flushes what is written to it", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-disk-"));
  const path = join(directory.path, "pmem.img");
  const MIB = 1 << 20;
  await writeFile(path, "from the host");
  await truncate(path, MIB);
  const disk = await openDisk(path);
  const memory = createMemfd("guest memory", 2 * MIB);
  const mapping = new SharedMapping(memory, 2 * MIB, "guest memory");
  const bytes = new Uint8Array(mapping.buffer, MIB, MIB);
  const heap = new ArrayBuffer(MIB + 4096); // memory of another kind, one view of which has whole pages
  for (let at = 0; at < 4096; at += 16) expect(disk.mapUnder?.(new Uint8Array(heap, at, MIB))).toBe(false);
  expect(disk.mapUnder?.(new Uint8Array(mapping.buffer))).toBe(false); // more than the file
  expect(disk.mapUnder?.(bytes)).toBe(true);
  expect((await stat(path)).blocks).toBe(MIB / 512);
  expect(String.fromCharCode(...bytes.slice(0, 13))).toBe("from the host");
  bytes[MIB - 1] = 7;
  await disk.flush();
  expect((await readFile(path))[MIB - 1]).toBe(7);
  const into = new Uint8Array(512);
  await disk.read(MIB - 512, [into]);
  expect(into[511]).toBe(7);
  await disk.close();
  await (await openDisk(path)).close(); // the mapping is there yet, and keeps nobody from the file
  mapping.unmap();
  close(memory);
});

it("is one machine's disk, for us and for QEMU, until it is closed", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-disk-"));
  const path = join(directory.path, "disk.img");
  await writeFile(path, new Uint8Array(65_536));
  const first = await openDisk(path);
  const inUse = `${path}: the image is in use: another process may write it`;
  await expect(openDisk(path)).rejects.toThrow(/in use/);
  await expect(openDisk(path, true)).rejects.toThrow(inUse);
  await first.close();
  const readers = [await openDisk(path, true), await openDisk(path, true)];
  await expect(openDisk(path)).rejects.toThrow(/in use/);
  for (const reader of readers) await reader.close();
  await (await openDisk(path)).close();
});

async function openDisk(path: string, readOnly = false): Promise<BlockBackend> {
  const disk = await fileDisk.open(
    { path },
    {
      device: "disk",
      readOnly,
      clock: new VirtualClock(),
      console: new RingBufferBackend(),
      log: { write: () => undefined },
      ends: { block: refused, char: refused, net: refused, directory: refused, vsock: refused },
      onStats: () => undefined,
    },
  );
  if (!("writeZeroes" in disk)) throw new Error("expected a disk");
  return disk;
}

const refused = (): Promise<never> => Promise.reject(new Error("no ends here"));
