import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, qemu, qemuImg, Random, seeds } from "./qemu.ts";
import { randomOptions, randomStep } from "./random-image.ts";

const O_DIRECT = 0o40000;

/** What the kernel says of the flags with which this process has the file open (proc(5)). */
function flagsOf(path: string): number {
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) !== path) continue;
    } catch {
      continue; // the descriptor of the listing itself
    }
    return Number.parseInt(
      /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "0",
      8,
    );
  }
  throw new Error(`${path} is not open`);
}

it.skipIf(qemuImg === undefined || process.platform !== "linux")(
  "images opened past the page cache are the same to qemu-img (needs Linux)",
  { timeout: 60_000 },
  async () => {
    await inDirectory((directory) => {
      for (const seed of seeds(4)) {
        const random = new Random(seed + 40_000);
        const path = join(directory, `${seed}.img`);
        const isRaw = seed % 4 === 0;
        const options = randomOptions(random);
        if (isRaw) writeFileSync(path, new Uint8Array(options.size));
        else {
          const file = NodeFile.open(path, { create: true });
          createQcow2(file, options);
          file.close();
        }
        const format = isRaw ? "raw" : "qcow2";
        const image = openImage(path, { format, direct: true, l2CacheBytes: 1, refcountCacheBytes: 1 });
        expect(flagsOf(path) & O_DIRECT).toBe(O_DIRECT);
        const model = new Uint8Array(image.size);
        for (let step = 0; step < 40; step += 1) {
          if (image instanceof Qcow2Image) randomStep(random, image, model);
          else {
            const sector = random.below(image.size / 512);
            const bytes = random.bytes(512 * (1 + random.below(image.size / 512 - sector)));
            image.writeAt(sector * 512, bytes);
            model.set(bytes, sector * 512);
          }
        }
        const now = new Uint8Array(model.length);
        image.readAt(0, now);
        expect(Buffer.compare(now, model), `seed ${seed}`).toBe(0);
        image.closeNow();
        const raw = join(directory, "model.raw");
        writeFileSync(raw, model);
        expect(
          qemu("qemu-img", "compare", "-f", format, "-F", "raw", path, raw),
          `seed ${seed}`,
        ).toMatchObject({
          status: 0,
        });
        if (!isRaw)
          expect(qemu("qemu-img", "check", "-f", "qcow2", path), `seed ${seed}`).toMatchObject({ status: 0 });
      }
    });
  },
);

it("a block device is opened past the page cache, and has its size", async ({ skip }) => {
  await inDirectory((directory) => {
    const path = join(directory, "device");
    writeFileSync(path, new Uint8Array(1 << 20));
    const { status, stdout, stderr } = spawnSync("losetup", ["-f", "--show", path], { encoding: "utf8" });
    if (status !== 0) skip(`this host makes no loop device: ${stderr ?? "no losetup"}`);
    const device = stdout.trim();
    try {
      for (const direct of [true, false]) {
        const image = openImage(device, { format: "raw", direct });
        expect(image.size).toBe(1 << 20);
        const bytes = new Random(1).bytes(1 << 19);
        image.writeAt(1 << 19, bytes);
        image.flushNow();
        const found = new Uint8Array(1 << 19);
        image.readAt(1 << 19, found);
        expect(Buffer.compare(found, bytes)).toBe(0);
        image.closeNow();
      }
    } finally {
      spawnSync("losetup", ["-d", device]);
    }
  });
});
