import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { MemoryFile } from "../src/file/memory-file.ts";
import { NodeFile } from "../src/file/node-file.ts";
import type { LuksOptions } from "../src/luks/luks-key.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, qemu, qemuImg, Random, seeds } from "./qemu.ts";
import { randomOptions, randomStep } from "./random-image.ts";

const passphrase: Uint8Array = new TextEncoder().encode("correct horse\n");

interface Layout extends Omit<LuksOptions, "passphrase"> {
  readonly cipherBits: 128 | 256;
  readonly cipherMode: "xts" | "cbc";
  readonly ivGenerator: "plain64" | "plain" | "essiv";
}

function randomLuks(random: Random): Layout {
  const cipherMode = random.pick(["xts", "xts", "cbc"] as const);
  return {
    cipherMode,
    cipherBits: random.pick([128, 256, 256] as const),
    ivGenerator: cipherMode === "xts" ? "plain64" : random.pick(["plain64", "plain", "essiv"] as const),
    ivHash: "sha256",
    hash: random.pick(["sha1", "sha256", "sha256", "sha512"]),
    iterationMs: 1,
  };
}

const optionsOf = (layout: Layout): string =>
  [
    "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
    `encrypt.cipher-alg=aes-${layout.cipherBits},encrypt.cipher-mode=${layout.cipherMode}`,
    `encrypt.ivgen-alg=${layout.ivGenerator},encrypt.hash-alg=${layout.hash ?? "sha256"}`,
    ...(layout.ivGenerator === "essiv" ? ["encrypt.ivgen-hash-alg=sha256"] : []),
  ].join(",");

const named = (path: string): string => `driver=qcow2,file.filename=${path},encrypt.key-secret=s`;

function open(path: string, readOnly: boolean): Qcow2Image {
  const image = openImage(path, { format: "qcow2", readOnly, passphrase });
  if (!(image instanceof Qcow2Image)) throw new Error("no qcow2 image");
  return image;
}

describe.skipIf(qemuImg === undefined)("encrypted images beside QEMU", () => {
  it.each(seeds(3))("QEMU reads what is written here, and is read, seed %i", async (seed) => {
    await inDirectory((directory) => {
      const random = new Random(seed + 20_000);
      const layout = randomLuks(random);
      const layoutOfImage = randomOptions(random);
      // Each sector costs microseconds: large clusters would cost seconds.
      const clusterSize = Math.min(65536, layoutOfImage.clusterSize ?? 65536);
      const options = { ...layoutOfImage, clusterSize, compressionType: "zlib" as const };
      const path = join(directory, "a.qcow2");
      writeFileSync(join(directory, "pw"), passphrase);
      const secret = ["--object", `secret,id=s,file=${join(directory, "pw")}`];
      const size = Math.max(options.size, 64 * 512);
      const what = `${JSON.stringify(options)} ${JSON.stringify(layout)}`;
      const isOurs = random.chance(2);
      if (isOurs) {
        const file = NodeFile.open(path, { create: true });
        createQcow2(file, { ...options, size, encryption: { ...layout, passphrase } });
        file.close();
      } else {
        const list = [optionsOf(layout), `cluster_size=${options.clusterSize ?? 65536}`];
        if (options.version === 2) list.push("compat=0.10");
        else if (options.extendedL2 === true) list.push("extended_l2=on");
        const create = ["create", ...secret, "-f", "qcow2", "-o", list.join(","), path, `${size}`];
        // So short a time is sometimes too short for QEMU to measure.
        let made = qemu("qemu-img", ...create);
        while (made.err.includes("Unable to get accurate CPU usage")) made = qemu("qemu-img", ...create);
        expect(made, what).toMatchObject({ status: 0 });
      }
      const model = new Uint8Array(size);
      for (let round = 0; round < 2; round += 1) {
        const image = open(path, false);
        for (let step = 0; step < 20; step += 1) {
          // Encrypted images have no compressed clusters.
          try {
            randomStep(random, image, model);
          } catch (error) {
            expect(String(error)).toContain("compressed clusters cannot be encrypted");
          }
        }
        image.closeNow();
        const commands: string[] = [];
        for (let step = 0; step < 5; step += 1) {
          const sector = random.below(size / 512 - 16);
          const length = 512 * (1 + random.below(16));
          const pattern = 1 + random.below(255);
          commands.push("-c", `write -P ${pattern} ${sector * 512} ${length}`);
          model.fill(pattern, sector * 512, sector * 512 + length);
        }
        expect(qemu("qemu-io", ...secret, "--image-opts", ...commands, named(path)), what).toMatchObject({
          status: 0,
        });
      }
      expect(qemu("qemu-img", "check", ...secret, "--image-opts", named(path)), what).toMatchObject({
        status: 0,
      });
      const raw = join(directory, "out.raw");
      const convert = ["convert", ...secret, "--image-opts", named(path), "-O", "raw", raw];
      expect(qemu("qemu-img", ...convert), what).toMatchObject({ status: 0 });
      expect(Buffer.compare(readFileSync(raw), model), `what QEMU reads: ${what}`).toBe(0);
      const image = open(path, true);
      const found = new Uint8Array(size);
      image.readAt(0, found);
      expect(Buffer.compare(found, model), `what is read here: ${what}`).toBe(0);
      // A read need not begin at a sector.
      const part = new Uint8Array(1000);
      image.readAt(777, part);
      expect(Buffer.compare(part, model.subarray(777, 1777)), what).toBe(0);
      image.closeNow();
    });
  });
});

describe("an encrypted image", () => {
  const make = (): MemoryFile => {
    const file = new MemoryFile();
    createQcow2(file, { size: 1 << 20, encryption: { passphrase, iterationMs: 1 } });
    return file;
  };

  it("has nothing of the data in its file, and gives nothing without its passphrase", () => {
    const file = make();
    const text = new TextEncoder().encode("the quick brown fox ".repeat(26).slice(0, 512));
    const image = Qcow2Image.open(file, { passphrase });
    image.writeAt(4096, text);
    image.createSnapshot("s", { dateSec: 1, dateNsec: 0 });
    image.writeAt(4096, new Uint8Array(512).fill(1));
    image.closeNow();
    expect(Buffer.from(file.content()).includes("quick brown")).toBe(false);
    const snapshot = Qcow2Image.open(new MemoryFile("copy", file.content(), true), {
      passphrase,
      snapshot: "s",
    });
    const found = new Uint8Array(512);
    snapshot.readAt(4096, found);
    expect(found).toEqual(text);

    const locked = Qcow2Image.open(file);
    expect(locked.describe().encryption).toMatchObject({ cipherName: "aes", cipherMode: "xts-plain64" });
    expect(() => locked.readAt(4096, found)).toThrow(
      "memory: the image is encrypted, and no secret was given for it",
    );
    expect(() => locked.writeAt(0, found)).toThrow("no secret was given");
    locked.abandon();
    expect(() => Qcow2Image.open(file, { passphrase: Uint8Array.of(1) })).toThrow(
      "the secret is not its passphrase",
    );
  });

  it("is not compressed", () => {
    const image = Qcow2Image.open(make(), { passphrase });
    expect(() => image.writeCompressedCluster(0, new Uint8Array(65536))).toThrow(
      "compressed clusters cannot be encrypted",
    );
  });

  it.each([
    ["the magic", 0, 0, "the magic is missing"],
    ["a cipher nobody has", 8, 0x62, "expected AES in XTS or CBC, found bes-xts-plain64"],
    ["a hash nobody has", 72, 0x78, "LUKS hash: expected sha1"],
    ["a key of no length", 111, 0, "key-bytes: expected 1 to 64, found 0"],
    ["iterations for a year", 208 + 4, 0xff, "iterations: expected 1 to"],
    ["a key outside of the header", 208 + 40, 0xff, "does not lie inside the header's"],
    ["stripes beyond number", 208 + 44, 0xff, "expected 2 to 10000 stripes"],
  ])("is refused by name with %s", (_what, at, value, message) => {
    const file = make();
    const { offset } = { offset: Number(new DataView(file.content().buffer).getBigUint64(112 + 8)) };
    file.write(offset + at, Uint8Array.of(value));
    expect(() => Qcow2Image.open(file, { passphrase })).toThrow(message);
  });
});
