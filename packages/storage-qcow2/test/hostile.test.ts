import { describe, expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { ImageError } from "../src/image-error.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { writeOffset } from "../src/qcow2/header.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { Random, seedCount } from "./qemu.ts";

/** What an operation came to: a named error or none. Anything else fails the test. */
function faultOf(act: () => unknown): string | undefined {
  try {
    act();
  } catch (error) {
    if (error instanceof ImageError) return error.fault;
    throw error;
  }
  return undefined;
}

/** An image with everything: snapshots, bitmaps, compressed, zero and copied clusters. */
function rich(random: Random): Uint8Array {
  const file = new MemoryFile("hostile");
  const extendedL2 = random.chance(4);
  createQcow2(file, {
    size: 1 << 18,
    clusterSize: extendedL2 ? 16384 : random.pick([512, 1024, 4096]),
    extendedL2,
  });
  const image = Qcow2Image.open(file);
  const { clusterSize } = image.meta;
  for (let step = 0; step < 12; step += 1) {
    image.writeAt(512 * random.below(500), random.bytes(3000 - (3000 % 512)));
    image.writeCompressedCluster(
      clusterSize * random.below((1 << 18) / clusterSize),
      random.bytes(clusterSize),
    );
    image.writeZeroesAt(512 * random.below(400), 8192, true);
    if (step === 5) image.createSnapshot("one", { dateSec: 1, dateNsec: 1 });
    if (step === 8) image.bitmaps.add("b", 4096);
  }
  image.closeNow();
  return file.content();
}

function damaged(random: Random, good: Uint8Array): Uint8Array {
  const bytes = good.slice();
  for (let flips = 0; flips < 1 + random.below(6); flips += 1) {
    const at = random.chance(2) ? random.below(560) : random.below(bytes.length);
    bytes[at] = random.pick([0, 1, 2, 0x40, 0x7f, 0x80, 0xff, random.below(256)]);
  }
  return random.chance(6) ? bytes.slice(0, random.below(bytes.length)) : bytes;
}

describe("a hostile image", () => {
  it("is read, listed and checked to an end, or fails by name", () => {
    for (let seed = 1; seed <= seedCount(100); seed += 1) {
      const random = new Random(seed);
      const bytes = damaged(random, rich(random));
      const before = bytes.slice();
      faultOf(() => {
        const image = Qcow2Image.open(new MemoryFile("hostile", bytes, true));
        faultOf(() => image.readAt(0, new Uint8Array(Math.min(image.size, 1 << 18))));
        faultOf(() => image.snapshots());
        for (const { name } of image.bitmaps.list())
          faultOf(() => image.bitmaps.get(name).dirtyBytes(image.size));
        faultOf(() =>
          Qcow2Image.open(new MemoryFile("hostile", bytes, true), { snapshot: "one" }).readAt(
            0,
            new Uint8Array(4096),
          ),
        );
      });
      faultOf(() => checkQcow2(new MemoryFile("hostile", bytes, true)));
      expect(Buffer.compare(bytes, before), `seed ${seed}: read only`).toBe(0);
    }
  });

  it("is written to, or refused by name, and a repair leaves nothing wrong", () => {
    for (let seed = 1; seed <= seedCount(60); seed += 1) {
      const random = new Random(seed + 5000);
      const file = new MemoryFile("hostile", damaged(random, rich(random)));
      faultOf(() => {
        const image = Qcow2Image.open(file);
        const steps = [
          () => image.writeAt(512 * random.below(256), new Uint8Array(8192).fill(1)),
          () => image.createSnapshot("two", { dateSec: 1, dateNsec: 1 }),
          () => image.deleteSnapshot("one"),
          () => image.discardAt(0, 65536),
          () => image.resize(1 << 19),
          () => image.flushNow(),
        ];
        for (let step = 0; step < 4; step += 1) if (faultOf(random.pick(steps)) === "corrupt") break;
        image.abandon();
      });
      faultOf(() => {
        const { corruptions, checkErrors } = checkQcow2(file, "all");
        if (corruptions + checkErrors > 0) return;
        const again = checkQcow2(file);
        expect(again, `seed ${seed}: ${again.messages.join("; ")}`).toMatchObject({
          corruptions: 0,
          leaks: 0,
        });
      });
    }
  });

  it("is not written to where it is marked corrupt, and is marked so once a write meets damage", () => {
    const file = new MemoryFile("hostile");
    createQcow2(file, { size: 1 << 18, clusterSize: 4096 });
    const image = Qcow2Image.open(file);
    image.writeAt(0, new Uint8Array(4096).fill(1));
    const l2 = image.meta.l2TableOffset(0);
    image.closeNow();
    // Guest cluster 0 over the L1 table, with the copied flag: a write in place would destroy it.
    const entry = new Uint8Array(8);
    writeOffset(new DataView(entry.buffer), 0, image.header.l1TableOffset);
    entry[0] = 0x80;
    file.write(l2, entry);
    const before = file.content();
    const hurt = Qcow2Image.open(file);
    expect(faultOf(() => hurt.writeAt(0, new Uint8Array(4096).fill(2)))).toBe("corrupt");
    hurt.abandon();
    expect(faultOf(() => Qcow2Image.open(file))).toBe("corrupt");
    const after = file.content();
    // Nothing but the header's corrupt bit changed.
    expect(after[79]).toBe(2);
    after[79] = before[79]!;
    expect(Buffer.compare(after, before)).toBe(0);
    expect(checkQcow2(file, "all")).toMatchObject({ corruptions: 0, leaks: 0 });
    Qcow2Image.open(file).closeNow();
  });

  it("is repaired where an L1 entry has flags and names no table", () => {
    for (const flag of [0x80, 0x01]) {
      const file = new MemoryFile("hostile");
      createQcow2(file, { size: 1 << 22, clusterSize: 4096 });
      const { l1TableOffset } = Qcow2Image.open(file).header;
      file.write(l1TableOffset + 8, Uint8Array.of(flag));
      expect(checkQcow2(file)).toMatchObject({ corruptions: 1 });
      expect(checkQcow2(file, "all")).toMatchObject({ corruptions: 0, corruptionsFixed: 1 });
      const entry = new Uint8Array(8);
      file.read(l1TableOffset + 8, entry);
      // QEMU takes whatever is not zero for a table, if need be the header.
      expect(entry).toEqual(new Uint8Array(8));
    }
  });

  it("cannot make a check walk a table more often than the file has it", () => {
    const clusterSize = 65536;
    const file = new MemoryFile("hostile");
    createQcow2(file, { size: 2 ** 40, clusterSize });
    const image = Qcow2Image.open(file);
    image.writeAt(0, new Uint8Array(clusterSize).fill(1));
    image.closeNow();
    // Every entry of a table of 2048 names one L2 table, and all of its 8192 entries one cluster.
    const l2 = image.meta.l2TableOffset(0);
    const data = image.extentAt(0, 512).fileOffset ?? 0;
    const fill = (at: number, entries: number, target: number): void => {
      const bytes = new Uint8Array(entries * 8);
      const view = new DataView(bytes.buffer);
      for (let index = 0; index < entries; index += 1) writeOffset(view, index * 8, target);
      file.write(at, bytes);
    };
    fill(image.header.l1TableOffset, image.header.l1Size, l2);
    fill(l2, clusterSize / 8, data);
    const report = checkQcow2(new MemoryFile("hostile", file.content(), true));
    expect(report.corruptions).toBeGreaterThan(0);
    expect(report.messages.join("\n")).toContain(`reference=${image.header.l1Size * (clusterSize / 8)}`);
  });
});
