import { mkdtempDisposable, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RingBufferBackend, VirtualClock } from "@northbridge/core";
import { expect, it } from "vitest";
import { fileDisk } from "./host-ends.ts";

it("gives the host back what a guest discards, and reads zeroes there", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-disk-"));
  const path = join(directory.path, "disk.img");
  const MIB = 1 << 20;
  await writeFile(path, new Uint8Array(4 * MIB).fill(0xa5));
  const disk = await fileDisk.open(
    { path },
    {
      device: "disk",
      readOnly: false,
      clock: new VirtualClock(),
      console: new RingBufferBackend(),
      log: { write: () => undefined },
      ends: { block: refused, char: refused, net: refused, directory: refused, vsock: refused },
      onStats: () => undefined,
    },
  );
  if (!("writeZeroes" in disk)) throw new Error("expected a disk");
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

const refused = (): Promise<never> => Promise.reject(new Error("no ends here"));
