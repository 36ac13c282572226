import { describe, expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { ImageError } from "../src/image-error.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { readHeader, readOffset, writeOffset } from "../src/qcow2/header.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { Random, seeds } from "./qemu.ts";

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
    for (const seed of seeds(100)) {
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
    for (const seed of seeds(60)) {
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

  it("keeps an L1 entry that has flags and names no table", () => {
    for (const flag of [0x80, 0x01]) {
      const file = new MemoryFile("hostile");
      createQcow2(file, { size: 1 << 22, clusterSize: 4096 });
      const { l1TableOffset } = Qcow2Image.open(file).header;
      file.write(l1TableOffset + 8, Uint8Array.of(flag));
      const before = file.content();
      expect(checkQcow2(file)).toMatchObject({ corruptions: 1 });
      expect(checkQcow2(file, "all")).toMatchObject({ corruptions: 1, corruptionsFixed: 0 });
      expect(Buffer.compare(file.content(), before)).toBe(0);
    }
  });

  it("has two blocks on one cluster: a repair parts them, or has nobody write to them where another entry stays", () => {
    for (const stays of [false, true]) {
      const file = new MemoryFile("hostile");
      createQcow2(file, { size: 1 << 20, clusterSize: 4096 });
      const image = Qcow2Image.open(file);
      for (const block of [0, 1, 2]) image.writeAt(block * 4096, new Uint8Array(4096).fill(block + 1));
      const l2 = image.meta.l2TableOffset(0);
      image.closeNow();
      const entry = new Uint8Array(8);
      file.read(l2, entry);
      file.write(l2 + 8, entry);
      if (stays) file.write(l2 + 16, Uint8Array.of(0x80, 0, 0, 0, 0x40)); // far outside of the file
      expect(checkQcow2(file, "all").corruptions > 0).toBe(stays);
      if (stays) {
        expect(faultOf(() => Qcow2Image.open(file))).toBe("corrupt");
        continue;
      }
      const repaired = Qcow2Image.open(file);
      repaired.writeAt(0, new Uint8Array(4096).fill(7));
      const other = new Uint8Array(1);
      repaired.readAt(4096, other);
      expect(other[0]).toBe(1);
      repaired.closeNow();
    }
  });

  it.each([2, 3] as const)(
    "is corrupt where reserved bits of an L2 entry are set, in version %i",
    (version) => {
      for (const [byte, bits] of [
        [0, 0x20],
        [7, 0x08],
      ] as const) {
        const file = new MemoryFile("hostile");
        createQcow2(file, { size: 1 << 20, clusterSize: 4096, version });
        const image = Qcow2Image.open(file);
        image.writeAt(0, new Uint8Array(4096).fill(1));
        const l2 = image.meta.l2TableOffset(0);
        image.closeNow();
        const entry = new Uint8Array(8);
        file.read(l2, entry);
        file.write(l2 + byte, Uint8Array.of((entry[byte] ?? 0) | bits));
        expect(checkQcow2(file)).toMatchObject({ corruptions: 1 });
        const before = file.content();
        expect(checkQcow2(file, "all")).toMatchObject({ corruptions: 1, corruptionsFixed: 0 });
        expect(Buffer.compare(file.content(), before)).toBe(0);
      }
    },
  );

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

  it("has a snapshot whose L1 table cannot be: nothing is allocated for it, and its entry can be deleted", () => {
    for (const [field, value] of [
      ["entries", 0x7fffffff],
      ["entries", 0],
      ["offset", 12345 * 512 + 1],
    ] as const) {
      const file = withSnapshot();
      const entry = readHeader(file).snapshotsOffset;
      const bytes = new Uint8Array(field === "entries" ? 4 : 8);
      if (field === "entries") new DataView(bytes.buffer).setUint32(0, value);
      else writeOffset(new DataView(bytes.buffer), 0, value);
      file.write(entry + (field === "entries" ? 8 : 0), bytes);
      const image = Qcow2Image.open(file);
      expect(faultOf(() => image.applySnapshot("one"))).toBe("corrupt");
      image.deleteSnapshot("one");
      image.closeNow();
      expect(checkQcow2(file, "all")).toMatchObject({ corruptions: 0, leaks: 0 });
    }
  });

  it("has an L1 table that names one table again and again: a snapshot of it is refused, not counted to the end", () => {
    const file = withSnapshot();
    const { l1TableOffset, l1Size, snapshotsOffset } = readHeader(file);
    const l1 = new Uint8Array(l1Size * 8);
    for (const at of [l1TableOffset, offsetAt(file, snapshotsOffset)]) {
      file.read(at, l1);
      for (let index = 1; index < l1Size; index += 1) l1.copyWithin(index * 8, 0, 8);
      file.write(at, l1);
    }
    const image = Qcow2Image.open(file);
    for (const act of [
      () => image.createSnapshot("two", { dateSec: 1, dateNsec: 1 }),
      () => image.applySnapshot("one"),
      () => image.deleteSnapshot("one"),
    ]) {
      expect(faultOf(act)).toBe("corrupt");
    }
    image.abandon();
  });

  it("has a bitmap with a table for another disk: it is not read", () => {
    const file = new MemoryFile("hostile");
    createQcow2(file, { size: 1 << 18, clusterSize: 4096 });
    let image = Qcow2Image.open(file);
    image.bitmaps.add("b", 512);
    image.writeAt(0, new Uint8Array(512));
    image.closeNow();
    const directory = offsetAt(file, 0, bitmapsExtensionOf(file));
    file.write(directory + 8, Uint8Array.of(0, 0, 0x80, 0));
    image = Qcow2Image.open(file);
    expect(faultOf(() => image.bitmaps.get("b"))).toBe("corrupt");
    expect(faultOf(() => image.writeAt(0, new Uint8Array(512)))).toBe("corrupt");
    image.bitmaps.remove("b");
    image.writeAt(0, new Uint8Array(512));
    image.abandon();
    createQcow2(file, { size: 2 ** 44, clusterSize: 65536 });
    expect(faultOf(() => Qcow2Image.open(file).bitmaps.add("large", 512))).toBe("request");
  });

  it.each(["all", "leaks"] as const)(
    "has a table of snapshots that cannot be read: a repair of %s frees nothing of theirs",
    (repair) => {
      const file = withSnapshot();
      const image = Qcow2Image.open(file);
      image.writeAt(0, new Uint8Array(1 << 16).fill(2));
      image.closeNow();
      const { snapshotsOffset } = readHeader(file);
      const length = new Uint8Array(4);
      file.read(snapshotsOffset + 36, length);
      for (const [at, bytes, before] of [
        [snapshotsOffset + 36, Uint8Array.of(0x7f, 0, 0, 0), length],
        [snapshotsOffset + 8, Uint8Array.of(0x7f, 0, 0, 0), Uint8Array.of(0, 0, 0, image.header.l1Size)],
      ] as const) {
        file.write(at, bytes);
        const { corruptions, checkErrors } = checkQcow2(file, repair);
        expect(corruptions + checkErrors).toBeGreaterThan(0);
        file.write(at, before);
        expect(checkQcow2(file)).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
        const found = new Uint8Array(1 << 16);
        Qcow2Image.open(new MemoryFile("hostile", file.content(), true), { snapshot: "one" }).readAt(
          0,
          found,
        );
        expect(found.every((byte) => byte === 1)).toBe(true);
      }
    },
  );
});

/** A snapshot `one` of a disk that begins with ones. */
function withSnapshot(): MemoryFile {
  const file = new MemoryFile("hostile");
  createQcow2(file, { size: 1 << 24, clusterSize: 4096 });
  const image = Qcow2Image.open(file);
  image.writeAt(0, new Uint8Array(1 << 16).fill(1));
  image.createSnapshot("one", { dateSec: 1, dateNsec: 1 });
  image.closeNow();
  return file;
}

const offsetAt = (file: MemoryFile, at: number, from?: Uint8Array): number => {
  const bytes = from ?? new Uint8Array(8);
  if (from === undefined) file.read(at, bytes);
  return readOffset(new DataView(bytes.buffer, bytes.byteOffset, 8), 0);
};

/** Where the header says that the bitmap directory lies. */
function bitmapsExtensionOf(file: MemoryFile): Uint8Array {
  const found = readHeader(file).extensions.find(({ type }) => type === 0x23852875);
  if (found === undefined) throw new Error("no bitmaps");
  return found.data.slice(16);
}
