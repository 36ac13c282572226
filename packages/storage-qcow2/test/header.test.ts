import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { readHeader } from "../src/qcow2/header.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, qemu, qemuImg } from "./qemu.ts";

/** An image as writers made it that knew no compression type: `header_length` 104, and the extensions right behind it. */
function withShortHeader(): MemoryFile {
  const file = new MemoryFile("old");
  createQcow2(file, { size: 1 << 20, clusterSize: 4096, backingFile: "base", backingFormat: "raw" });
  const head = new Uint8Array(4096);
  file.read(0, head);
  const view = new DataView(head.buffer);
  // An extension that nobody knows makes them reach far behind the first sector.
  const unknown = Uint8Array.from({ length: 700 }, (_, index) => index);
  const extensions = head.slice(112, view.getUint32(12));
  head.fill(0, 104);
  view.setUint32(100, 104);
  view.setUint32(104, 0x12345678);
  view.setUint32(108, unknown.length);
  head.set(unknown, 112);
  const at = 112 + Math.ceil(unknown.length / 8) * 8;
  head.set(extensions, at);
  head.set(new TextEncoder().encode("base"), at + extensions.length);
  view.setUint32(12, at + extensions.length);
  file.write(0, head);
  return file;
}

it("keeps the length of a header and everything behind its fields, whatever is written", async () => {
  const file = withShortHeader();
  const before = readHeader(file);
  expect(before).toMatchObject({ headerLength: 104, backingFile: "base" });
  const firstBytes = file.content().slice(104, 4096);
  const open = (): Qcow2Image => Qcow2Image.open(file, { backing: Qcow2Image.open(below()) });
  const below = (): MemoryFile => {
    const base = new MemoryFile("base");
    createQcow2(base, { size: 1 << 20 });
    return base;
  };
  let image = open();
  image.writeAt(0, new Uint8Array(4096).fill(1));
  image.createSnapshot("one", { dateSec: 1, dateNsec: 1 });
  image.resize(2 << 20);
  image.closeNow();
  // Fields only: not one byte behind them.
  expect(file.content().slice(104, 4096)).toEqual(firstBytes);
  expect(checkQcow2(file, "all")).toMatchObject({ corruptions: 0, leaks: 0 });
  image = open();
  image.bitmaps.add("b", 65536);
  image.closeNow();
  image = open();
  image.setBackingFile("another one", "raw");
  image.closeNow();
  const after = readHeader(file);
  expect(after).toMatchObject({ headerLength: 104, backingFile: "another one" });
  for (const { type, data } of before.extensions) {
    if (type !== 0xe2792aca) expect(after.extensions).toContainEqual({ type, data });
  }
  if (qemuImg === undefined) return;
  await inDirectory((directory) => {
    const path = join(directory, "old.qcow2");
    writeFileSync(path, file.content());
    writeFileSync(join(directory, "another one"), new Uint8Array(1 << 20));
    expect(qemu("qemu-img", "check", "-f", "qcow2", path)).toMatchObject({ status: 0 });
    const info = JSON.parse(qemu("qemu-img", "info", "-f", "qcow2", "--output=json", path).out) as unknown;
    expect(info).toMatchObject({ "backing-filename": "another one", "virtual-size": 2 << 20 });
  });
});
