import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { commitImage, emptyImage } from "../src/operations/commit-image.ts";
import { copyForRebase } from "../src/operations/rebase-image.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import { readHeader } from "../src/qcow2/header.ts";
import { createQcow2, type Qcow2CreateOptions } from "../src/qcow2/create.ts";
import { Qcow2Image, type Qcow2Options } from "../src/qcow2/qcow2-image.ts";
import { RawImage } from "../src/raw/raw-image.ts";
import { FailingFile, type FailureBounds } from "./crash-replay.ts";
import {
  CACHES,
  DiskModel,
  type Opener,
  randomLayout,
  SECTORS,
  sectorValues,
  step,
  verify,
} from "./disk-model.ts";
import { inDirectory, qemu, qemuImg, Random, seeds } from "./qemu.ts";

/**
 * With `NORTHBRIDGE_QCOW2_SEEDS` every barrier is looked at, every subset of up to ten sectors before it, and of more
 * sectors every prefix up to 32.
 */
const isThorough = process.env["NORTHBRIDGE_QCOW2_SEEDS"] !== undefined;
const BOUNDS: FailureBounds = isThorough
  ? { subsets: 1024, samples: 7, prefixes: 32 }
  : { subsets: 3, samples: 2, prefixes: 1 };

/** An image with what stands beside it, all of which fail at the same time. */
class CrashRig {
  readonly file: FailingFile = new FailingFile();
  readonly data: FailingFile | undefined;
  readonly model: DiskModel = new DiskModel();
  readonly #below: Uint8Array | undefined;
  #keys: Qcow2Image | undefined;

  constructor(kind: Kind, layout: Qcow2CreateOptions, random: Random) {
    this.data = kind.data === undefined ? undefined : new FailingFile("data");
    if (kind.isBacked === true) {
      // It ends inside the disk.
      this.#below = random.bytes(512 * (100 + random.below(SECTORS)));
      for (let sector = 0; sector < SECTORS && sector * 512 < this.#below.length; sector += 1) {
        const value = 1 + random.below(255);
        this.#below.fill(value, sector * 512, sector * 512 + 512);
        this.model.willBe(sector, 1, value);
      }
      this.model.flushed();
    }
    createQcow2(this.file, layout);
  }

  /** @param data content of the data file, where it is not the one that goes on */
  open(file: MemoryFile, options: Qcow2Options = {}, data?: Uint8Array): Qcow2Image {
    const dataFile = data === undefined ? this.data : new MemoryFile("data", data, file.readOnly);
    const image = Qcow2Image.open(file, {
      ...options,
      passphrase: PASSPHRASE,
      ...(this.#keys === undefined ? {} : { encryptedAs: this.#keys }),
      ...(dataFile === undefined ? {} : { dataFile }),
      ...(this.#below === undefined
        ? {}
        : { backing: new RawImage(new MemoryFile("below", this.#below, true)) }),
    });
    this.#keys ??= image;
    return image;
  }

  onBarrier(look: () => void): void {
    for (const file of [this.file, this.data]) if (file !== undefined) file.onBarrier = look;
  }

  /** Of two files each has its own luck. */
  *failures(random: Random): Generator<{ readonly image: Uint8Array; readonly open: Opener }> {
    const data = this.data === undefined ? [undefined] : [...this.data.failures(random, BOUNDS)];
    let index = 0;
    for (const image of this.file.failures(random, BOUNDS)) {
      const beside = data[index % data.length];
      index += 1;
      yield { image, open: (file, more) => this.open(file, more, beside?.slice()) };
    }
  }
}

interface Kind {
  readonly name: string;
  readonly options?: Partial<Qcow2CreateOptions>;
  readonly data?: "plain" | "raw";
  readonly isBacked?: boolean;
  /** Seeds where nobody asks for more. */
  readonly usual: number;
}

const PASSPHRASE = new TextEncoder().encode("open sesame");
const LUKS = { passphrase: PASSPHRASE, cipherBits: 128, cipherMode: "cbc", iterationMs: 1 } as const;
const V2 = { version: 2, refcountBits: 16, lazyRefcounts: false, extendedL2: false } as const;

const KINDS: readonly Kind[] = [
  { name: "an image", usual: 3 },
  { name: "a version 2 image", options: { ...V2, clusterSize: 512 }, usual: 1 },
  { name: "an overlay", isBacked: true, usual: 2 },
  { name: "a version 2 overlay", options: { ...V2, clusterSize: 1024 }, isBacked: true, usual: 1 },
  { name: "an image with a data file", data: "plain", usual: 1 },
  { name: "an image with a raw data file", data: "raw", usual: 1 },
  { name: "an encrypted image", options: { encryption: LUKS }, usual: 1 },
  {
    name: "an encrypted overlay",
    options: { encryption: LUKS, clusterSize: 4096 },
    isBacked: true,
    usual: 1,
  },
];

it.each(KINDS)(
  "a power failure costs nothing that was flushed, whatever $name is doing",
  {
    timeout: 3_600_000,
  },
  async (kind) => {
    await inDirectory((directory) => {
      let states = 0;
      for (const seed of seeds(kind.usual)) {
        const random = new Random(seed);
        const failing = new Random(seed + 1e6);
        const layout: Qcow2CreateOptions = {
          ...randomLayout(random),
          ...kind.options,
          ...(kind.data === undefined ? {} : { dataFile: "data", dataFileRaw: kind.data === "raw" }),
          ...(kind.isBacked === true ? { backingFile: "below", backingFormat: "raw" } : {}),
        };
        const rig = new CrashRig(kind, layout, random);
        const { file, model } = rig;
        let what = "";
        rig.onBarrier(() => {
          if (!isThorough && !failing.chance(3)) return;
          for (const { image: crashed, open } of rig.failures(failing)) {
            states += 1;
            verify(
              crashed,
              model,
              `seed ${seed} ${JSON.stringify({ ...layout, encryption: "" })} ${what}`,
              open,
            );
            if (qemuImg === undefined || states % 200 !== 0 || kind.options !== undefined) continue;
            if (kind.data !== undefined || kind.isBacked === true) continue;
            const path = join(directory, "crashed");
            writeFileSync(path, crashed);
            // QEMU repairs a dirty image too before it writes to it.
            const first = qemu("qemu-io", "-f", "qcow2", "-c", "flush", path);
            const check = qemu("qemu-img", "check", "-f", "qcow2", path);
            expect([0, 3], `seed ${seed} ${what}: ${first.err}${check.out}${check.err}`).toContain(
              check.status,
            );
          }
        });
        let image = rig.open(file, CACHES);
        // Key slots make each state a megabyte to look at.
        const steps = kind.options?.encryption === undefined || isThorough ? 60 : 15;
        for (let index = 0; index < steps; index += 1) {
          what = `step ${index}`;
          if (random.chance(12)) {
            image.closeNow();
            model.flushed();
            image = rig.open(file, CACHES);
            if (layout.version !== 2 && random.chance(2)) {
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
  },
);

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
      for (const content of file.failures(random, { ...BOUNDS, subsets: Math.max(BOUNDS.subsets, 64) })) {
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
      const lower = [...base.failures(random, BOUNDS)];
      const upper = [...top.failures(random, BOUNDS)];
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

it.each(["another image", "nothing"])(
  "a power failure in a rebase onto %s changes nothing that a guest sees",
  {
    timeout: 3_600_000,
  },
  (onto) => {
    for (const seed of seeds(3)) {
      const random = new Random(seed + 900);
      const images = new Map<string, Uint8Array>();
      for (const name of ["old", "new"]) {
        const bytes = new Uint8Array(512 * (200 + random.below(SECTORS)));
        for (let at = 0; at < bytes.length; at += 4096) bytes.set(random.bytes(512), at);
        images.set(name, bytes);
      }
      const below = (name: string | undefined): RawImage | undefined =>
        name === undefined ? undefined : new RawImage(new MemoryFile(name, images.get(name), true));
      const open = (file: MemoryFile): Qcow2Image => {
        const { backingFile } = readHeader(file);
        const backing = below(backingFile);
        return Qcow2Image.open(file, { ...CACHES, ...(backing === undefined ? {} : { backing }) });
      };
      const file = new FailingFile("top");
      createQcow2(file, {
        ...randomLayout(random),
        size: SECTORS * 512,
        clusterSize: 4096,
        extendedL2: false,
        backingFile: "old",
        backingFormat: "raw",
      });
      const image = open(file);
      for (let index = 0; index < 12; index += 1) image.writeAt(random.below(380) * 512, random.bytes(4096));
      image.flushNow();
      const expected = new Uint8Array(SECTORS * 512);
      image.readAt(0, expected);
      let states = 0;
      const look = (): void => {
        for (const content of file.failures(random, BOUNDS)) {
          const crashed = new MemoryFile("top", content);
          open(crashed).abandon();
          const found = new Uint8Array(SECTORS * 512);
          open(new MemoryFile("top", crashed.content(), true)).readAt(0, found);
          expect(Buffer.compare(found, expected), `seed ${seed}`).toBe(0);
          expect(checkQcow2(crashed)).toMatchObject({ corruptions: 0, checkErrors: 0 });
          states += 1;
        }
      };
      file.onBarrier = look;
      const name = onto === "nothing" ? undefined : "new";
      copyForRebase(image, below(name));
      image.setBackingFile(name, name && "raw");
      image.closeNow();
      look();
      expect(states).toBeGreaterThan(3);
      expect(readHeader(file).backingFile).toBe(name);
    }
  },
);

it("a power failure while the refcount table grows costs nothing", { timeout: 3_600_000 }, () => {
  for (const seed of seeds(1)) {
    const random = new Random(seed + 1200);
    const file = new FailingFile();
    const size = 4 << 20;
    // A table of one cluster has 64 blocks, each of which counts 64 clusters.
    createQcow2(file, { size, clusterSize: 512, refcountBits: 64, lazyRefcounts: random.chance(2) });
    const image = Qcow2Image.open(file, CACHES);
    const before = readHeader(file).refcountTableOffset;
    const CHUNK = 32768;
    const flushed: number[] = [];
    const values: number[] = [];
    let moves = 0;
    for (let chunk = 0; chunk < size / CHUNK; chunk += 1) {
      const value = 1 + random.below(255);
      image.writeAt(chunk * CHUNK, new Uint8Array(CHUNK).fill(value));
      values.push(value);
      if (!random.chance(3)) continue;
      let isMoving = false;
      file.onBarrier = () => {
        const offset = image.header.refcountTableOffset;
        isMoving ||= offset !== before;
        // Near the end of what the first table counts, or random moments.
        if (file.size() < 1.8 * 2 ** 20 || !random.chance(isThorough ? 2 : 40)) return;
        for (const content of file.failures(random, BOUNDS)) {
          const crashed = new MemoryFile("crashed", content);
          Qcow2Image.open(crashed).abandon();
          expect(checkQcow2(crashed), `seed ${seed}`).toMatchObject({ corruptions: 0, checkErrors: 0 });
          const reader = Qcow2Image.open(new MemoryFile("crashed", crashed.content(), true));
          const found = new Uint8Array(CHUNK);
          for (const [index, expected] of flushed.entries()) {
            reader.readAt(index * CHUNK, found);
            expect(
              found.every((byte) => byte === expected),
              `seed ${seed}, chunk ${index}`,
            ).toBe(true);
          }
        }
      };
      image.flushNow();
      if (isMoving) moves += 1;
      flushed.splice(0, Infinity, ...values);
    }
    image.closeNow();
    expect(readHeader(file).refcountTableOffset).not.toBe(before);
    expect(moves).toBeGreaterThan(0);
    expect(checkQcow2(file)).toMatchObject({ corruptions: 0, leaks: 0 });
  }
});

it("a power failure while the header changes leaves the old one or the new one", {
  timeout: 3_600_000,
}, async () => {
  /** For QEMU. */
  const samples: { readonly content: Uint8Array; readonly allowed: readonly string[] }[] = [];
  let states = 0;
  for (const seed of seeds(6)) {
    const random = new Random(seed + 1500);
    const file = new FailingFile("top");
    const clusterSize = random.pick([512, 2048, 4096, 65536]);
    createQcow2(file, { size: 65536, clusterSize, backingFile: "b", backingFormat: "raw" });
    const below = new RawImage(new MemoryFile("below", new Uint8Array(512).fill(9), true));
    let image = Qcow2Image.open(file, { backing: below });
    const seen = (of: Qcow2Image): string =>
      JSON.stringify([of.header.backingFile, of.bitmaps.list().map(({ name }) => name)]);
    let allowed: string[] = [];
    file.onBarrier = () => {
      for (const content of file.failures(random, BOUNDS)) {
        const after = Qcow2Image.open(new MemoryFile("top", content, true), { backing: below });
        expect(allowed, `seed ${seed}`).toContain(seen(after));
        const first = new Uint8Array(512);
        after.readAt(0, first);
        expect(first[0]).toBe(9);
        states += 1;
        if (states % 12 === 0) samples.push({ content, allowed });
      }
    };
    for (let index = 0; index < 12; index += 1) {
      const before = seen(image);
      const names = image.bitmaps.list().map(({ name }) => name);
      if (random.chance(2)) {
        const name = "b".repeat(1 + random.below(clusterSize === 512 ? 20 : 300));
        allowed = [before, JSON.stringify([name, names])];
        image.setBackingFile(name, "raw");
        continue;
      }
      const [first] = names;
      const isFull = names.length > 2 || clusterSize === 512;
      if (first !== undefined && (isFull || random.chance(2))) image.bitmaps.remove(first);
      else if (!isFull) image.bitmaps.add(`bitmap ${index}`, 65536);
      allowed = [before, seen(image)];
      image.closeNow();
      image = Qcow2Image.open(file, { backing: below });
    }
    image.abandon();
  }
  expect(states).toBeGreaterThan(0);
  if (qemuImg === undefined) return;
  await inDirectory((directory) => {
    const path = join(directory, "top");
    for (const { content, allowed } of samples) {
      writeFileSync(path, content);
      const { status, out, err } = qemu("qemu-img", "info", "-f", "qcow2", "--output=json", path);
      expect(status, err).toBe(0);
      const info = JSON.parse(out) as {
        "backing-filename": string;
        "format-specific": { data: { bitmaps?: { name: string }[] } };
      };
      const names = (info["format-specific"].data.bitmaps ?? []).map(({ name }) => name);
      expect(allowed).toContain(JSON.stringify([info["backing-filename"], names]));
    }
  });
});
