import { expect, it } from "vitest";
import { ImageError } from "../src/image-error.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { RawImage } from "../src/raw/raw-image.ts";
import { CACHES, DiskModel, randomLayout, SECTORS, sectorValues, step, verify } from "./disk-model.ts";
import { FaultyFile } from "./faulty-file.ts";
import { Random, seeds } from "./qemu.ts";

/** Runs `act`, which may fail by name. */
function attempt(act: () => void): ImageError | undefined {
  try {
    act();
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
  return undefined;
}

/** An image with some history, and what must be in it. */
function usedImage(seed: number): { readonly content: Uint8Array; readonly model: DiskModel } {
  const random = new Random(seed);
  const file = new FaultyFile("faulty");
  createQcow2(file, randomLayout(random));
  const model = new DiskModel();
  const image = Qcow2Image.open(file, CACHES);
  for (let index = 0; index < 15; index += 1) step(random, image, model);
  if (random.chance(2)) {
    model.bitmapBase = model.current.slice();
    image.bitmaps.add("b", 1024);
  }
  image.closeNow();
  model.flushed();
  return { content: file.content(), model };
}

/** After a step that failed each sector has what it had or what it was to have, nothing else. */
function settleModel(image: Qcow2Image, model: DiskModel, before: Uint8Array, name: string): void {
  const values = sectorValues(image, name);
  for (const [index, value] of values.entries()) {
    if (value !== before[index] && value !== model.current[index]) {
      throw new Error(
        `${name}: sector ${index} is ${value}, expected ${before[index]} or ${model.current[index]}`,
      );
    }
    model.willBe(index, 1, value);
  }
}

/** Steps of which some fail; what the image shows then is what it has from there on. */
function faultySteps(
  random: Random,
  image: Qcow2Image,
  file: FaultyFile,
  model: DiskModel,
  name: string,
): void {
  for (let index = 0; index < 12; index += 1) {
    const before = model.current.slice();
    const snapshots = new Map(model.snapshots);
    const { faults } = file;
    const error = attempt(() => step(random, image, model));
    if (file.faults === faults && error === undefined) continue;
    settleModel(image, model, before, `${name}, step ${index}`);
    // Whether a snapshot came about or went away, the image says; what is in it does not change.
    for (const [key, value] of snapshots) model.snapshots.set(key, value);
  }
}

/** What a process that is killed or closes the image leaves must hold. */
function closeAndVerify(image: Qcow2Image, file: FaultyFile, model: DiskModel, name: string): void {
  const failed =
    attempt(() => {
      image.flushNow();
      model.flushed();
    }) ?? attempt(() => image.closeNow());
  if (failed === undefined) model.flushed();
  verify(file.content(), model, name);
}

it.each(["failsIn", "readFailsIn"] as const)(
  "a request that the host fails changes nothing but what it was to change: %s",
  { timeout: 3_600_000 },
  (counter) => {
    let faults = 0;
    for (const seed of seeds(2)) {
      const { content, model: start } = usedImage(seed);
      for (let failsIn = 1; ; failsIn += 1) {
        const model = start.copy();
        const file = new FaultyFile("faulty", content.slice());
        file.random = new Random(seed * 1000 + failsIn);
        const image = Qcow2Image.open(file, CACHES);
        file[counter] = failsIn;
        const name = `seed ${seed}, fault ${failsIn}`;
        faultySteps(new Random(seed + 1e5), image, file, model, name);
        closeAndVerify(image, file, model, name);
        if (file.faults === 0) break;
        faults += file.faults;
      }
    }
    expect(faults).toBeGreaterThan(0);
  },
);

it("a host without space fails requests, and once it has space again the image is whole", {
  timeout: 3_600_000,
}, () => {
  let faults = 0;
  for (const seed of seeds(30)) {
    const { content, model } = usedImage(seed);
    const file = new FaultyFile("full", content.slice());
    const random = new Random(seed + 2e5);
    file.random = new Random(seed);
    const image = Qcow2Image.open(file, CACHES);
    file.limit = content.length + 512 * random.below(20);
    faultySteps(random, image, file, model, `seed ${seed}, full`);
    faults += file.faults;
    file.limit = Infinity;
    faultySteps(random, image, file, model, `seed ${seed}, with space`);
    image.flushNow();
    model.flushed();
    closeAndVerify(image, file, model, `seed ${seed}`);
  }
  // A single seed may find room for everything.
  if (seeds(30).length >= 30) expect(faults).toBeGreaterThan(20);
});

it.each(["raw", "qcow2"] as const)(
  "once the host failed to make a %s image stable, nothing more is said to be",
  async (format) => {
    const file = new FaultyFile("disk");
    if (format === "qcow2") createQcow2(file, { size: SECTORS * 512, clusterSize: 512 });
    else file.truncate(SECTORS * 512);
    const image = format === "qcow2" ? Qcow2Image.open(file) : new RawImage(file);
    const bytes = new Uint8Array(1024).fill(7);
    await image.write(0, [bytes]);
    // The first flush of a qcow2 image has more than one barrier.
    file.failsIn = format === "qcow2" ? 2 : 1;
    await expect(image.flush()).rejects.toThrow("disk: cannot fdatasync: input/output error");
    const lost = /^disk: what was written may be lost since the host failed to make it stable/;
    await expect(image.flush()).rejects.toThrow(lost);
    await expect(image.write(0, [bytes])).rejects.toThrow(lost);
    await expect(image.writeZeroes(0, 512, true)).rejects.toThrow(lost);
    const found = new Uint8Array(1024);
    await image.read(0, [found]);
    expect(found).toEqual(bytes);
    if (format === "qcow2") await expect(image.close()).rejects.toThrow(lost);
    const again = format === "qcow2" ? Qcow2Image.open(file) : new RawImage(file);
    await again.write(0, [bytes]);
    await again.flush();
    await again.close();
  },
);

/** An image with a bitmap that has one bit, and what is in its file. */
function withBitmap(): Uint8Array {
  const file = new FaultyFile("bitmaps");
  createQcow2(file, { size: SECTORS * 512, clusterSize: 512 });
  const image = Qcow2Image.open(file);
  image.bitmaps.add("b", 512);
  image.writeAt(0, new Uint8Array(512).fill(1));
  image.closeNow();
  return file.content();
}

it("a bitmap that could not be marked in use is marked before the next write", () => {
  const file = new FaultyFile("bitmaps", withBitmap());
  const image = Qcow2Image.open(file);
  file.failsIn = 1;
  expect(attempt(() => image.writeAt(512, new Uint8Array(512)))?.fault).toBe("host");
  image.writeAt(1024, new Uint8Array(512).fill(2));
  image.flushNow();
  image.abandon();
  // The process died, and the bitmap does not know of its last write.
  expect(Qcow2Image.open(new FaultyFile("bitmaps", file.content())).bitmaps.list()).toMatchObject([
    { name: "b", isInconsistent: true },
  ]);
});

it("a bitmap of which a part could not be read is not stored as if that were all", () => {
  const content = withBitmap();
  for (let failsIn = 1; failsIn < 6; failsIn += 1) {
    const file = new FaultyFile("bitmaps", content.slice());
    const image = Qcow2Image.open(file);
    file.readFailsIn = failsIn;
    attempt(() => image.writeAt(1024, new Uint8Array(512).fill(2)));
    image.writeAt(2048, new Uint8Array(512).fill(3));
    image.closeNow();
    const bits = Qcow2Image.open(file).bitmaps.get("b");
    expect([bits.isSet(0), bits.isSet(4)], `fault ${failsIn}`).toEqual([true, true]);
  }
});

it("what was written is there though a bitmap could not be stored when the image was closed", () => {
  const file = new FaultyFile("bitmaps", withBitmap());
  const image = Qcow2Image.open(file);
  image.writeAt(51_200, new Uint8Array(512).fill(5));
  file.failsIn = 1;
  expect(attempt(() => image.closeNow())?.fault).toBe("host");
  const again = Qcow2Image.open(file);
  const found = new Uint8Array(512);
  again.readAt(51_200, found);
  expect(found).toEqual(new Uint8Array(512).fill(5));
  expect(again.bitmaps.list()).toMatchObject([{ isInconsistent: true }]);
});
