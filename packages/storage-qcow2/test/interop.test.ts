import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import type { DiskImage } from "../src/disk-image.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, qemu, qemuImg, Random, seeds } from "./qemu.ts";
import { randomOptions, randomStep } from "./random-image.ts";

function contentOf(path: string, format: "raw" | "qcow2"): Uint8Array {
  const image = openImage(path, { format, readOnly: true });
  const bytes = new Uint8Array(image.size);
  image.readAt(0, bytes);
  image.closeNow();
  return bytes;
}

function asQcow2(image: DiskImage): Qcow2Image {
  if (!(image instanceof Qcow2Image)) throw new Error(`${image.path} is no qcow2 image`);
  return image;
}

const same = (found: Uint8Array, expected: Uint8Array): boolean => Buffer.compare(found, expected) === 0;

describe.skipIf(qemuImg === undefined)("images that this package writes", () => {
  it.each(seeds(30))("are clean and the same to qemu-img, seed %i", async (seed) => {
    await inDirectory((directory) => {
      const random = new Random(seed);
      const path = join(directory, "a.qcow2");
      const options = randomOptions(random);
      const backed = random.chance(2);
      const model = new Uint8Array(Math.ceil(options.size / 512) * 512);
      if (backed) {
        const below = random.bytes(512 * (1 + random.below(Math.floor(model.length / 256) + 1)));
        writeFileSync(join(directory, "base.raw"), below);
        model.set(below.subarray(0, model.length));
      }
      const dataFile =
        !backed && options.version === 3 && random.chance(4) ? join(directory, "a.data") : undefined;
      if (dataFile !== undefined) writeFileSync(dataFile, "");
      const file = NodeFile.open(path, { create: true });
      createQcow2(file, {
        ...options,
        ...(backed ? { backingFile: "base.raw", backingFormat: "raw" } : {}),
        ...(dataFile === undefined ? {} : { dataFile, dataFileRaw: random.chance(2) }),
      });
      file.close();
      const image = asQcow2(
        openImage(path, {
          format: "qcow2",
          l2CacheBytes: 1,
          refcountCacheBytes: 1,
        }),
      );
      for (let step = 0; step < 60; step += 1) randomStep(random, image, model);
      const now = new Uint8Array(model.length);
      image.readAt(0, now);
      expect(same(now, model), "read back before closing").toBe(true);
      image.closeNow();

      expect(same(contentOf(path, "qcow2"), model), "read back after closing").toBe(true);
      const check = qemu("qemu-img", "check", "-f", "qcow2", path);
      expect(check, `${JSON.stringify(options)} ${check.err}`).toMatchObject({ status: 0 });
      writeFileSync(join(directory, "model.raw"), model);
      const compare = qemu(
        "qemu-img",
        "compare",
        "-f",
        "qcow2",
        "-F",
        "raw",
        path,
        join(directory, "model.raw"),
      );
      expect(compare, JSON.stringify(options)).toMatchObject({ status: 0 });
    });
  });
});

describe.skipIf(qemuImg === undefined)("images that QEMU writes", () => {
  it.each(seeds(16))("read the same here and stay clean when written on, seed %i", async (seed) => {
    await inDirectory((directory) => {
      const random = new Random(seed + 7000);
      const options = randomOptions(random);
      const size = Math.max(options.size, 64 * 512);
      const path = join(directory, "q.qcow2");
      const list = [
        `cluster_size=${options.clusterSize ?? 65536}`,
        `compat=${options.version === 2 ? "0.10" : "1.1"}`,
        ...(options.version === 2
          ? []
          : [
              `refcount_bits=${options.refcountBits ?? 16}`,
              `compression_type=${options.compressionType ?? "zlib"}`,
              `extended_l2=${options.extendedL2 === true ? "on" : "off"}`,
            ]),
      ];
      const source = join(directory, "source.raw");
      const model = new Uint8Array(size);
      for (let at = 0; at < size; at += 3072) if (random.chance(2)) model.set(random.bytes(512), at);
      writeFileSync(source, model);
      const convert = ["convert", "-f", "raw", "-O", "qcow2", "-o", list.join(",")];
      if (random.chance(2)) convert.push("-c");
      expect(qemu("qemu-img", ...convert, source, path), list.join(",")).toMatchObject({ status: 0 });
      const commands: string[] = [];
      for (let step = 0; step < 8; step += 1) {
        const sector = random.below(size / 512 - 16);
        const length = 512 * (1 + random.below(16));
        const zero = random.chance(3);
        const pattern = zero ? 0 : 1 + random.below(255);
        commands.push("-c", `write ${zero ? "-z" : `-P ${pattern}`} ${sector * 512} ${length}`);
        model.fill(pattern, sector * 512, sector * 512 + length);
      }
      expect(qemu("qemu-io", "-f", "qcow2", ...commands, path)).toMatchObject({ status: 0 });

      expect(same(contentOf(path, "qcow2"), model), `what QEMU wrote, ${list.join(",")}`).toBe(true);
      const image = asQcow2(openImage(path, { format: "qcow2" }));
      for (let step = 0; step < 30; step += 1) randomStep(random, image, model);
      image.closeNow();
      writeFileSync(source, model);
      const check = qemu("qemu-img", "check", "-f", "qcow2", path);
      expect(check, `${list.join(",")} ${check.err}`).toMatchObject({ status: 0 });
      expect(qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, source)).toMatchObject({
        status: 0,
      });
    });
  });
});
