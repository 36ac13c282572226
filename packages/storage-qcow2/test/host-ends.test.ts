import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HostEndContext } from "@northbridge/sdk";
import { FakeClock } from "@northbridge/sdk/testing";
import { expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { ManagedDisk } from "../src/graph/disk-jobs.ts";
import { qcow2 } from "../src/host-ends/qcow2-end.ts";
import { throttled } from "../src/host-ends/throttled-end.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { RawImage } from "../src/raw/raw-image.ts";
import { inDirectory } from "./qemu.ts";

/** What a machine would give; a kind that asks for more fails. */
const context = (more: Partial<HostEndContext>): HostEndContext => more as HostEndContext;

it("opens an encrypted image with the secret in a file, past the page cache", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "disk.qcow2");
    const secret = { path: join(directory, "secret") };
    writeFileSync(secret.path, "open sesame");
    const file = NodeFile.open(path, { create: true });
    const passphrase = new TextEncoder().encode("open sesame");
    createQcow2(file, { size: 1 << 20, encryption: { passphrase, iterationMs: 1 } });
    file.close();
    const bytes = new Uint8Array(4096).fill(7);
    const disk = await qcow2.open(
      { path, secret, direct: process.platform === "linux" },
      context({ readOnly: false }),
    );
    await disk.write(8192, [bytes]);
    await disk.resize?.(2 << 20);
    expect(disk.size).toBe(2 << 20);
    await disk.close();
    const again = await qcow2.open({ path, secret }, context({ readOnly: true }));
    const found = new Uint8Array(4096);
    await again.read(8192, [found]);
    expect(found).toEqual(bytes);
    expect(again.size).toBe(2 << 20);
    await again.close();
    expect(() =>
      qcow2.open({ path, secret: { path: join(directory, "none") } }, context({ readOnly: true })),
    ).toThrow(/none: cannot read the secret: no such file or directory$/);
    expect(() => qcow2.open({ path }, context({ readOnly: true }))).toThrow(
      /disk.qcow2: the image is encrypted: expected secret: { path }, found none$/,
    );
  });
});

it("puts a throttle in front of another disk, with a limit that it must have", async () => {
  const validate = (options: unknown): unknown => throttled.options["~standard"].validate(options);
  expect(validate({ disk: { kind: "qcow2" }, requestsPerSec: 100 })).toMatchObject({
    value: { requestsPerSec: 100 },
  });
  expect(validate({ disk: { kind: "qcow2" } })).toMatchObject({
    issues: [{ message: "expected requestsPerSec or bytesPerSec" }],
  });
  expect(validate({ disk: { kind: "qcow2" }, bytesPerSec: 0 })).toHaveProperty("issues");
  const behind = new RawImage(new MemoryFile("m", new Uint8Array(4096)));
  let counters: () => Readonly<Record<string, number>> = () => ({});
  const clock = new FakeClock();
  const disk = await throttled.open(
    { disk: { kind: "any" }, requestsPerSec: 1, burstMs: 1 },
    context({
      readOnly: false,
      clock,
      onStats: (ask) => (counters = ask),
      ends: { block: () => Promise.resolve(behind) } as unknown as HostEndContext["ends"],
    }),
  );
  // As a device's setup does, while guest time stands still.
  await disk.flush();
  await disk.flush();
  clock.advance(1);
  const second = disk.flush();
  await new Promise((resolve) => setImmediate(resolve));
  disk.hurry?.();
  await second;
  expect(counters()).toEqual({ throttled: 1 });
  await disk.close();
});

it("says which job the end of the machine ended, and which file a disk is on", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "disk.qcow2");
    const file = NodeFile.open(path, { create: true });
    createQcow2(file, { size: 1 << 20 });
    file.close();
    const said: number[] = [];
    const disk = await qcow2.open(
      { path },
      context({ readOnly: false, device: "disk0", log: { write: (byte) => void said.push(byte) } }),
    );
    if (!(disk instanceof ManagedDisk)) throw new Error("a disk without jobs");
    disk.jobs.snapshot(join(directory, "over"));
    expect(disk.location).toBe(join(directory, "over"));
    disk.jobs.backup(join(directory, "copy"));
    await disk.close();
    const begins = `disk0: the disk was closed and backup to ${join(directory, "copy")} cancelled at `;
    expect(new TextDecoder().decode(Uint8Array.from(said))).toContain(begins);
  });
});
