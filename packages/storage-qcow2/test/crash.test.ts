import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { commitImage, emptyImage } from "../src/operations/commit-image.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { FailingFile } from "./crash-replay.ts";
import { CACHES, DiskModel, randomLayout, SECTORS, sectorValues, step, verify } from "./disk-model.ts";
import { inDirectory, qemu, qemuImg, Random, seeds } from "./qemu.ts";

/** With `NORTHBRIDGE_QCOW2_SEEDS` every barrier is looked at, and every subset of up to ten sectors before it. */
const isThorough = process.env["NORTHBRIDGE_QCOW2_SEEDS"] !== undefined;
const BUDGET = isThorough ? 1024 : 3;
/** Of states beyond those subsets. */
const SAMPLES = isThorough ? 8 : 3;
it("a power failure costs nothing that was flushed, whatever the image is doing", {
  timeout: 3_600_000,
}, async () => {
  await inDirectory((directory) => {
    let states = 0;
    for (const seed of seeds(3)) {
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
  for (const seed of seeds(20)) {
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
  for (const seed of seeds(3)) {
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
