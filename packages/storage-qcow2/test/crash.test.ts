import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { commitImage, emptyImage } from "../src/operations/commit-image.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import { createQcow2, type Qcow2CreateOptions } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { FailingFile } from "./crash-replay.ts";
import { inDirectory, qemu, qemuImg, Random, seedCount } from "./qemu.ts";

/** With `NORTHBRIDGE_QCOW2_SEEDS` every barrier is looked at, and every subset of up to ten sectors before it. */
const isThorough = process.env["NORTHBRIDGE_QCOW2_SEEDS"] !== undefined;
const BUDGET = isThorough ? 1024 : 3;
/** Of states beyond those subsets. */
const SAMPLES = isThorough ? 8 : 3;
const SECTORS = 400;
/** Small caches: much is written back in the middle of operations. */
const CACHES = { l2CacheBytes: 1, refcountCacheBytes: 1 };

/** What a disk of one byte a sector may hold after a power failure, and what its snapshots and bitmaps must. */
class DiskModel {
  current: Uint8Array = new Uint8Array(SECTORS);
  readonly allowed: Set<number>[] = Array.from({ length: SECTORS }, () => new Set([0]));
  readonly snapshots = new Map<string, Uint8Array>();
  /** Content when the bitmap began to follow writes. */
  bitmapBase: Uint8Array | undefined;

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

function sectorValues(image: Qcow2Image, name: string): Uint8Array {
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

/** Everything that must hold of an image after a power failure. */
function verify(crashed: Uint8Array, model: DiskModel, name: string): void {
  const file = new MemoryFile("crashed", crashed);
  // Opening for writing repairs an image that says it needs it.
  const after = Qcow2Image.open(file);
  after.abandon();
  const report = checkQcow2(new MemoryFile("crashed", file.content(), true));
  expect({
    name,
    corruptions: report.corruptions,
    errors: report.checkErrors,
    messages: report.messages.filter((m) => m.startsWith("ERROR")),
  }).toEqual({
    name,
    corruptions: 0,
    errors: 0,
    messages: [],
  });
  const image = Qcow2Image.open(new MemoryFile("crashed", file.content(), true));
  const values = sectorValues(image, name);
  for (const [index, set] of model.allowed.entries()) {
    if (!set.has(values[index]!)) {
      throw new Error(`${name}: sector ${index} is ${values[index]}, expected one of ${[...set].join(", ")}`);
    }
  }
  for (const entry of image.snapshots()) {
    const expected = model.snapshots.get(entry.name);
    const snapshot = Qcow2Image.open(new MemoryFile("crashed", file.content(), true), {
      snapshot: entry.name,
    });
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
function step(random: Random, image: Qcow2Image, model: DiskModel): void {
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
      model.willBe(start, length, 0);
      image.discardAt(start * 512, length * 512);
      return;
    }
    case 4: {
      const start = sector - (sector % clusterSectors);
      if (start + clusterSectors > last) return;
      model.willBe(start, clusterSectors, value);
      image.writeCompressedCluster(start * 512, new Uint8Array(clusterSectors * 512).fill(value));
      return;
    }
    case 5: {
      if (model.snapshots.size >= 3) return;
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
      for (let index = Math.min(size, last); index < SECTORS; index += 1) model.willBe(index, 1, 0);
      image.resize(size * 512);
      // What was freed is taken again, and reads as zeroes though nothing is written.
      if (random.chance(3)) image.preallocate(0, "metadata");
      model.flushed();
      return;
    }
    default:
      model.willBe(sector, count, value);
      image.writeAt(sector * 512, new Uint8Array(count * 512).fill(value));
  }
}

function randomLayout(random: Random): Qcow2CreateOptions {
  const extendedL2 = random.chance(5);
  return {
    size: SECTORS * 512,
    clusterSize: extendedL2 ? 16384 : random.pick([512, 512, 1024, 4096]),
    refcountBits: random.pick([4, 16, 16, 64]),
    lazyRefcounts: random.chance(4),
    extendedL2,
  };
}

it("a power failure costs nothing that was flushed, whatever the image is doing", {
  timeout: 3_600_000,
}, async () => {
  await inDirectory((directory) => {
    let states = 0;
    for (let seed = 1; seed <= seedCount(3); seed += 1) {
      const random = new Random(seed);
      const failing = new Random(seed + 1e6);
      const file = new FailingFile();
      const layout = randomLayout(random);
      createQcow2(file, layout);
      const model = new DiskModel();
      let what = "";
      file.onBarrier = () => {
        if (!isThorough && !failing.chance(3)) return;
        for (const crashed of file.failures(failing, BUDGET, SAMPLES)) {
          states += 1;
          verify(crashed, model, `seed ${seed} ${JSON.stringify(layout)} ${what}`);
          if (qemuImg === undefined || states % 200 !== 0) continue;
          const path = join(directory, "crashed");
          writeFileSync(path, crashed);
          // QEMU repairs a dirty image too before it writes to it.
          const first = qemu("qemu-io", "-f", "qcow2", "-c", "flush", path);
          const check = qemu("qemu-img", "check", "-f", "qcow2", path);
          expect([0, 3], `seed ${seed} ${what}: ${first.err}${check.out}${check.err}`).toContain(
            check.status,
          );
        }
      };
      let image = Qcow2Image.open(file, CACHES);
      for (let index = 0; index < 60; index += 1) {
        what = `step ${index}`;
        if (random.chance(12)) {
          image.closeNow();
          model.flushed();
          image = Qcow2Image.open(file, CACHES);
          if (random.chance(2)) {
            if (image.bitmaps.isEmpty) {
              model.bitmapBase = model.current.slice();
              image.bitmaps.add("b", 1024);
            } else {
              model.bitmapBase = undefined;
              image.bitmaps.remove("b");
            }
          }
        } else step(random, image, model);
      }
      image.closeNow();
      const report = checkQcow2(new MemoryFile("closed", file.content(), true));
      expect(report, `seed ${seed}: ${report.messages.join("; ")}`).toMatchObject({
        corruptions: 0,
        leaks: 0,
      });
    }
    expect(states).toBeGreaterThan(0);
  });
});

it("a power failure while an image is made leaves no image or an empty one", () => {
  let empty = 0;
  for (let seed = 1; seed <= seedCount(20); seed += 1) {
    const random = new Random(seed + 600);
    const file = new FailingFile();
    // Something else was there before: another image, or bytes that are none.
    if (random.chance(2)) createQcow2(file, { ...randomLayout(random), size: 512 * random.below(SECTORS) });
    else if (random.chance(2)) file.write(0, random.bytes(512 * (1 + random.below(64))));
    file.sync();
    file.truncate(0);
    file.sync();
    const layout = {
      ...randomLayout(random),
      ...(random.chance(2)
        ? { clusterSize: 1024, extendedL2: false, backingFile: "b", backingFormat: "raw" }
        : {}),
    };
    const look = (): void => {
      for (const content of file.failures(random, Math.max(BUDGET, 64), SAMPLES)) {
        if (content.subarray(0, 4).every((byte) => byte === 0)) continue;
        const crashed = new MemoryFile("crashed", content, true);
        const report = checkQcow2(crashed);
        expect(report, `seed ${seed} ${JSON.stringify(layout)}`).toMatchObject({
          corruptions: 0,
          checkErrors: 0,
          leaks: 0,
        });
        const image = Qcow2Image.open(crashed);
        expect(image.describe().backingFile).toBe(layout.backingFile);
        expect(sectorValues(image, `seed ${seed}`)).toEqual(new Uint8Array(SECTORS));
        empty += 1;
      }
    };
    file.onBarrier = look;
    createQcow2(file, layout);
    look();
  }
  expect(empty).toBeGreaterThan(0);
});

it("a power failure in a commit changes nothing that a guest sees", { timeout: 3_600_000 }, () => {
  for (let seed = 1; seed <= seedCount(3); seed += 1) {
    const random = new Random(seed + 300);
    const base = new FailingFile("base");
    const top = new FailingFile("top");
    createQcow2(base, { size: SECTORS * 256, clusterSize: 1024 });
    createQcow2(top, { size: SECTORS * 512, clusterSize: 4096, backingFile: "base", backingFormat: "qcow2" });
    const below = Qcow2Image.open(base, CACHES);
    for (let index = 0; index < 20; index += 1) below.writeAt(random.below(150) * 512, random.bytes(2048));
    const image = Qcow2Image.open(top, { ...CACHES, backing: below });
    for (let index = 0; index < 20; index += 1) {
      image.writeAt(random.below(380) * 512, random.bytes(4096));
      image.writeZeroesAt(random.below(380) * 512, 8192, true);
    }
    image.flushNow();
    below.flushNow();
    const expected = new Uint8Array(SECTORS * 512);
    image.readAt(0, expected);
    const look = (): void => {
      const lower = [...base.failures(random, BUDGET, SAMPLES)];
      const upper = [...top.failures(random, BUDGET, SAMPLES)];
      for (const [index, content] of upper.entries()) {
        const backing = Qcow2Image.open(new MemoryFile("base", lower[index % lower.length], true));
        const crashed = Qcow2Image.open(new MemoryFile("top", content, true), { backing });
        const found = new Uint8Array(SECTORS * 512);
        crashed.readAt(0, found);
        expect(Buffer.compare(found, expected), `seed ${seed}`).toBe(0);
      }
    };
    base.onBarrier = look;
    top.onBarrier = look;
    commitImage(image, below);
    emptyImage(image);
    image.closeNow();
    look();
  }
});
