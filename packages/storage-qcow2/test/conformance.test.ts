import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BlockBackend } from "@northbridge/sdk";
import { blockConformance } from "@northbridge/sdk/conformance";
import { FakeClock } from "@northbridge/sdk/testing";
import { afterAll, describe, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { MemoryFile } from "../src/file/memory-file.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { ManagedDisk } from "../src/graph/disk-jobs.ts";
import { LiveDisk } from "../src/graph/live-disk.ts";
import { ThrottledDisk } from "../src/graph/throttled-disk.ts";
import { exportImage } from "../src/nbd/nbd-export.ts";
import { NbdClient } from "../src/nbd/nbd-client.ts";
import { NbdServer } from "../src/nbd/nbd-server.ts";
import { createQcow2, type Qcow2CreateOptions } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { RawImage } from "../src/raw/raw-image.ts";

const SIZE = 1 << 20;
const passphrase = new TextEncoder().encode("open sesame");

const directory = mkdtempSync(join(tmpdir(), "northbridge-block-"));
afterAll(() => {
  rmSync(directory, { recursive: true });
});
let count = 0;
const newPath = (): string => join(directory, `${count++}`);

function qcow2InMemory(options: Partial<Qcow2CreateOptions> = {}): Qcow2Image {
  const file = new MemoryFile();
  createQcow2(file, { size: SIZE, clusterSize: 4096, ...options });
  return Qcow2Image.open(file, options.encryption && { passphrase });
}

function qcow2File(options: Partial<Qcow2CreateOptions> = {}): string {
  const path = newPath();
  const file = NodeFile.open(path, { create: true });
  createQcow2(file, { size: SIZE, ...options });
  file.close();
  return path;
}

function rawFile(): string {
  const path = newPath();
  writeFileSync(path, new Uint8Array(SIZE).fill(0x11));
  return path;
}

/** Every block back end of this package, by name. */
const backends: Readonly<Record<string, () => BlockBackend | Promise<BlockBackend>>> = {
  "a raw image": () => openImage(rawFile(), { format: "raw" }),
  "a raw image in memory": () => new RawImage(new MemoryFile("m", new Uint8Array(SIZE))),
  "a qcow2 image": () => openImage(qcow2File(), { format: "qcow2" }),
  "a qcow2 image with subclusters": () => qcow2InMemory({ extendedL2: true, clusterSize: 65_536 }),
  "an encrypted qcow2 image": () => qcow2InMemory({ encryption: { passphrase, iterationMs: 1 } }),
  "an overlay": () =>
    openImage(qcow2File({ backingFile: rawFile(), backingFormat: "raw" }), { format: "qcow2" }),
  "a disk that jobs can change": () => new LiveDisk(qcow2InMemory()),
  "a disk with jobs": () =>
    new ManagedDisk(
      qcow2InMemory(),
      (path) => openImage(path),
      () => undefined,
    ),
  // It lets through what comes: what it keeps waiting is in tests of its own.
  "a throttled disk": () => new ThrottledDisk(qcow2InMemory(), new FakeClock(), { requests: Infinity }),
  "an NBD client": async () => {
    const image = qcow2InMemory();
    const path = newPath();
    const server = await NbdServer.listen(path, { exports: [exportImage(image, "")] });
    const client = await NbdClient.connect({ path });
    const close = client.close.bind(client);
    client.close = async () => {
      await close();
      await server.close();
    };
    return client;
  },
};

describe.each(Object.entries(backends))("%s", (_name, create) => {
  blockConformance({ describe, it }, () => Promise.resolve(create()));
});
