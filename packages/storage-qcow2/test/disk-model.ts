import { expect } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import type { Qcow2CreateOptions } from "../src/qcow2/create.ts";
import { Qcow2Image, type Qcow2Options } from "../src/qcow2/qcow2-image.ts";
import type { Random } from "./qemu.ts";

/** Sectors of the disks of these tests. */
export const SECTORS = 400;
/** Small caches: much is written back in the middle of operations. */
export const CACHES = { l2CacheBytes: 1, refcountCacheBytes: 1 };

/** What a disk of one byte a sector may hold after a power failure, and what its snapshots and bitmaps must. */
export class DiskModel {
  current: Uint8Array = new Uint8Array(SECTORS);
  readonly allowed: Set<number>[] = Array.from({ length: SECTORS }, () => new Set([0]));
  readonly snapshots: Map<string, Uint8Array> = new Map();
  /** Content when the bitmap began to follow writes. */
  bitmapBase: Uint8Array | undefined;

  copy(): DiskModel {
    const copy = new DiskModel();
    copy.current = this.current.slice();
    for (const [index, set] of this.allowed.entries()) copy.allowed[index] = new Set(set);
    for (const [name, content] of this.snapshots) copy.snapshots.set(name, content);
    copy.bitmapBase = this.bitmapBase;
    return copy;
  }

  /** To be called before the image changes: what is under way may have happened or not. */
  willBe(sector: number, count: number, value: number): void {
    for (let index = sector; index < sector + count; index += 1) {
      this.current[index] = value;
      this.allowed[index]!.add(value);
    }
  }

  flushed(): void {
    for (const [index, set] of this.allowed.entries()) {
      set.clear();
      set.add(this.current[index]!);
    }
  }
}

export function sectorValues(image: Qcow2Image, name: string): Uint8Array {
  const bytes = new Uint8Array(SECTORS * 512);
  image.readAt(0, bytes.subarray(0, Math.min(bytes.length, image.size)));
  const values = new Uint8Array(SECTORS);
  for (let index = 0; index < SECTORS; index += 1) {
    const value = bytes[index * 512]!;
    if (!bytes.subarray(index * 512, index * 512 + 512).every((byte) => byte === value)) {
      throw new Error(`${name}: sector ${index} is torn`);
    }
    values[index] = value;
  }
  return values;
}

/** Opens an image with what it needs beside its file. */
export type Opener = (file: MemoryFile, more?: Pick<Qcow2Options, "snapshot">) => Qcow2Image;

/** Everything that must hold of an image after a power failure. */
export function verify(
  crashed: Uint8Array,
  model: DiskModel,
  name: string,
  open: Opener = (file, more) => Qcow2Image.open(file, more),
): void {
  const file = new MemoryFile("crashed", crashed);
  // Opening for writing repairs an image that says it needs it.
  const after = open(file);
  after.abandon();
  const report = checkQcow2(new MemoryFile("crashed", file.content(), true));
  // Version 2 has no dirty bit: a failure in a snapshot operation leaves flags behind, though no data are at risk.
  const isFlag = (message: string): boolean =>
    after.header.version === 2 && message.includes("but the copied flag is");
  const errors = report.messages.filter((message) => message.startsWith("ERROR") && !isFlag(message));
  expect({ name, errors, checkErrors: report.checkErrors }).toEqual({ name, errors: [], checkErrors: 0 });
  const image = open(new MemoryFile("crashed", file.content(), true));
  const values = sectorValues(image, name);
  for (const [index, set] of model.allowed.entries()) {
    if (!set.has(values[index]!)) {
      throw new Error(`${name}: sector ${index} is ${values[index]}, expected one of ${[...set].join(", ")}`);
    }
  }
  for (const entry of image.snapshots()) {
    const expected = model.snapshots.get(entry.name);
    const snapshot = open(new MemoryFile("crashed", file.content(), true), { snapshot: entry.name });
    const found = sectorValues(snapshot, `${name}, snapshot ${entry.name}`);
    expect(Buffer.compare(found, expected ?? new Uint8Array(0)), `${name}: snapshot ${entry.name}`).toBe(0);
  }
  const bitmap = image.bitmaps.list().find((candidate) => candidate.name === "b");
  if (bitmap !== undefined && !bitmap.isInconsistent && model.bitmapBase !== undefined) {
    const bits = image.bitmaps.get("b");
    for (const [index, value] of values.subarray(0, image.size / 512).entries()) {
      if (value !== model.bitmapBase[index] && !bits.isSet(Math.floor((index * 512) / bits.granularity))) {
        throw new Error(`${name}: sector ${index} changed, and the bitmap does not say so`);
      }
    }
  }
}

/** One thing that happens to the disk; the model hears of it first. */
export function step(random: Random, image: Qcow2Image, model: DiskModel): void {
  const last = image.size / 512;
  const sector = random.below(last);
  const count = 1 + random.below(Math.min(12, last - sector));
  const value = 1 + random.below(255);
  const clusterSectors = image.meta.clusterSize / 512;
  switch (random.below(14)) {
    case 0:
    case 1:
      image.flushNow();
      model.flushed();
      return;
    case 2:
      model.willBe(sector, count, 0);
      image.writeZeroesAt(sector * 512, count * 512, random.chance(2));
      return;
    case 3: {
      const start = sector - (sector % clusterSectors);
      const length = Math.min(clusterSectors, last - start);
      // It cannot say "zeroes" over a backing image.
      if (image.header.version === 2 && image.backing !== undefined) return;
      model.willBe(start, length, 0);
      image.discardAt(start * 512, length * 512);
      return;
    }
    case 4: {
      const start = sector - (sector % clusterSectors);
      if (start + clusterSectors > last || image.meta.hasDataFile || image.meta.isEncrypted) return;
      model.willBe(start, clusterSectors, value);
      image.writeCompressedCluster(start * 512, new Uint8Array(clusterSectors * 512).fill(value));
      return;
    }
    case 5: {
      if (model.snapshots.size >= 3 || image.meta.hasDataFile) return;
      const name = `s${random.below(1e6)}`;
      model.snapshots.set(name, model.current.slice());
      image.createSnapshot(name, { dateSec: 1, dateNsec: 0 });
      model.flushed();
      return;
    }
    case 6: {
      const [entry] = image.snapshots();
      if (entry === undefined) return;
      image.deleteSnapshot(entry.name);
      model.snapshots.delete(entry.name);
      model.flushed();
      return;
    }
    case 7: {
      const entry = image.snapshots().at(-1);
      if (entry === undefined || !image.bitmaps.isEmpty) return;
      const content = model.snapshots.get(entry.name)!;
      for (const [index, old] of content.entries()) model.willBe(index, 1, old);
      image.applySnapshot(entry.name);
      model.flushed();
      return;
    }
    case 8: {
      const size = SECTORS - random.below(200);
      if (image.header.version === 2 && image.header.snapshotCount > 0) return;
      for (let index = Math.min(size, last); index < SECTORS; index += 1) model.willBe(index, 1, 0);
      const isOther = size !== last;
      image.resize(size * 512);
      // What was freed is taken again, and reads as zeroes though nothing is written.
      if (random.chance(3) && canPreallocate(image)) image.preallocate(0, "metadata");
      if (isOther) model.flushed();
      return;
    }
    default:
      model.willBe(sector, count, value);
      image.writeAt(sector * 512, new Uint8Array(count * 512).fill(value));
  }
}

/** Over a backing image only subclusters can have a place and yet show what is below; what is encrypted shows noise. */
const canPreallocate = ({ backing, meta }: Qcow2Image): boolean =>
  !meta.isEncrypted && (backing === undefined || meta.isExtendedL2);

export function randomLayout(random: Random): Qcow2CreateOptions {
  const extendedL2 = random.chance(5);
  return {
    size: SECTORS * 512,
    clusterSize: extendedL2 ? 16384 : random.pick([512, 512, 1024, 4096]),
    refcountBits: random.pick([4, 16, 16, 64]),
    lazyRefcounts: random.chance(4),
    extendedL2,
  };
}
