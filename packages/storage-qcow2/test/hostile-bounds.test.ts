import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import { expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import { createQcow2, type Qcow2CreateOptions } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { ENDLESS_ZSTD, withCompressed } from "./hostile-clusters.ts";

/** Where the header's fields stand (docs/interop/qcow2: Header). */
const Field = {
  version: [4, 4],
  backingFileOffset: [8, 8],
  backingFileSize: [16, 4],
  clusterBits: [20, 4],
  size: [24, 8],
  cryptMethod: [32, 4],
  l1Size: [36, 4],
  l1TableOffset: [40, 8],
  refcountTableOffset: [48, 8],
  refcountTableClusters: [56, 4],
  nbSnapshots: [60, 4],
  snapshotsOffset: [64, 8],
  incompatibleFeatures: [72, 8],
  refcountOrder: [96, 4],
  headerLength: [100, 4],
} as const;

function imageWith(field: keyof typeof Field, value: bigint): MemoryFile {
  const file = new MemoryFile("hostile");
  createQcow2(file, { size: 1 << 20 });
  const [at, bytes] = Field[field];
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, value);
  file.write(at, new Uint8Array(view.buffer, 8 - bytes));
  return file;
}

const MOST = 2n ** 64n - 1n;

it.each([
  ["version", 4n, "unsupported", "version 2 or 3, found 4"],
  ["backingFileOffset", MOST, "invalid", "backing_file"],
  ["backingFileOffset", 2n ** 63n, "invalid", "backing_file"],
  ["clusterBits", 8n, "invalid", "cluster_bits"],
  ["clusterBits", 22n, "invalid", "cluster_bits"],
  ["clusterBits", 0xffffffffn, "invalid", "cluster_bits"],
  ["size", 2n ** 63n, "invalid", "size: expected less than 2^53 bytes"],
  ["size", MOST, "invalid", "size: expected less than 2^53 bytes"],
  ["size", 2n ** 62n, "invalid", "size: expected less than 2^53 bytes"],
  ["size", 2n ** 50n, "invalid", "l1_size"],
  ["cryptMethod", 3n, "invalid", "crypt_method"],
  ["l1Size", 0xffffffffn, "invalid", "l1_size"],
  ["l1Size", 0n, "invalid", "l1_size"],
  ["l1TableOffset", 2n ** 63n, "invalid", "l1_table_offset"],
  ["l1TableOffset", 512n, "invalid", "l1_table_offset"],
  ["l1TableOffset", 2n ** 52n, "corrupt", "cut off before its L1 table"],
  ["refcountTableOffset", MOST, "invalid", "refcount_table_offset"],
  ["refcountTableOffset", 2n ** 52n, "corrupt", "cut off before its refcount table"],
  ["refcountTableClusters", 0xffffffffn, "invalid", "refcount_table_clusters"],
  ["nbSnapshots", 0xffffffffn, "invalid", "nb_snapshots"],
  ["snapshotsOffset", 2n ** 63n, "invalid", "snapshots_offset"],
  ["incompatibleFeatures", 2n ** 63n, "unsupported", "features unknown here: incompatible bit 63"],
  ["incompatibleFeatures", 2n ** 5n, "unsupported", "features unknown here: incompatible bit 5"],
  ["refcountOrder", 7n, "invalid", "refcount_order"],
  ["refcountOrder", 0xffffffffn, "invalid", "refcount_order"],
  ["headerLength", 0xfffffff8n, "invalid", "header_length"],
] as const)("an image whose %s is %d is refused, as %s: %s", (field, value, fault, message) => {
  const file = imageWith(field, value);
  const before = file.content();
  const refused = expect.objectContaining({ fault, message: expect.stringContaining(message) });
  expect(() => Qcow2Image.open(file)).toThrow(refused);
  // A check of tables that are not there finds them, or does not begin; whatever it does, it writes nothing.
  try {
    expect(checkQcow2(file).checkErrors + checkQcow2(file).corruptions).toBeGreaterThan(0);
  } catch (error) {
    expect(error).toEqual(expect.objectContaining({ fault }));
  }
  expect(Buffer.compare(file.content(), before)).toBe(0);
});

it("an unknown feature is refused by the name that the image has for it, and an unknown autoclear bit is cleared", () => {
  const file = imageWith("incompatibleFeatures", 2n ** 1n);
  // The name of the corrupt bit becomes that of a bit that nobody knows.
  const content = file.content();
  const name = Buffer.from(content).indexOf("corrupt bit");
  file.write(name - 1, Uint8Array.of(6));
  file.write(name, new TextEncoder().encode("time travel\0"));
  file.write(79, Uint8Array.of(0x40));
  expect(() => Qcow2Image.open(file)).toThrow("features unknown here: 'time travel' (incompatible bit 6)");

  const auto = new MemoryFile("auto");
  createQcow2(auto, { size: 1 << 20 });
  const autoclear = (): bigint => new DataView(auto.content().buffer).getBigUint64(88);
  auto.write(88, Uint8Array.of(0x80, 0, 0, 0, 0, 0, 0, 0x10));
  Qcow2Image.open(new MemoryFile("auto", auto.content(), true)).closeNow();
  expect(autoclear()).toBe(0x8000000000000010n);
  Qcow2Image.open(auto).closeNow();
  expect(autoclear()).toBe(0n);
});

it.each([
  ["zlib", deflateRawSync(new Uint8Array(64 << 20), { windowBits: 12 })],
  ["zstd", ENDLESS_ZSTD],
] as const)("a compressed cluster that has more than a cluster is no cluster: %s", (type, bomb) => {
  const file = withCompressed(type, bomb);
  const image = Qcow2Image.open(new MemoryFile("bomb", file.content(), true));
  const into = new Uint8Array(512);
  const corrupt = expect.objectContaining({ fault: "corrupt" });
  expect(() => image.readAt(0, into)).toThrow(corrupt);
  const writer = Qcow2Image.open(file);
  // A write of part of the cluster must know the rest.
  expect(() => writer.writeAt(0, into)).toThrow(corrupt);
  writer.abandon();
});

it("hostile clusters and sizes cost little memory", () => {
  const script = join(import.meta.dirname, "hostile-memory.child.ts");
  const { stdout, stderr } = spawnSync(process.execPath, ["--conditions=northbridge-source", script], {
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  const { mib, faults } = JSON.parse(stdout) as { readonly mib: number; readonly faults: readonly string[] };
  expect(new Set(faults)).toEqual(new Set(["corrupt", "invalid"]));
  // What they ask for is gigabytes.
  expect(mib).toBeLessThan(100);
});

it.each([1, 2, 4, 8] as const)("a count of %i bits does not overflow", (refcountBits) => {
  const file = new MemoryFile("counts");
  createQcow2(file, { size: 1 << 16, clusterSize: 512, refcountBits });
  const image = Qcow2Image.open(file);
  image.writeAt(0, new Uint8Array(1024).fill(1));
  const most = 2 ** refcountBits - 1;
  for (let count = 1; count < most; count += 1)
    image.createSnapshot(`s${count}`, { dateSec: 1, dateNsec: 0 });
  expect(() => image.createSnapshot("one too many", { dateSec: 1, dateNsec: 0 })).toThrow(
    expect.objectContaining({ name: "ImageError" }),
  );
  expect(image.snapshots()).toHaveLength(most - 1);
  image.writeAt(512, new Uint8Array(512).fill(2));
  image.closeNow();
  expect(checkQcow2(file)).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  const after = Qcow2Image.open(file);
  const found = new Uint8Array(1024);
  after.readAt(0, found);
  expect([found[0], found[512]]).toEqual([1, 2]);
  after.closeNow();
});

it.each([2n ** 63n, 2n ** 53n, -1n])("no image of %d bytes is made", (size) => {
  const options: Qcow2CreateOptions = { size: Number(size) };
  const file = new MemoryFile("none");
  expect(() => createQcow2(file, options)).toThrow(expect.objectContaining({ name: "ImageError" }));
  expect(file.size()).toBe(0);
});
