/** Opens and reads hostile images, and prints how much more memory that took, and what they failed with. */
import { deflateRawSync } from "node:zlib";
import { MemoryFile } from "../src/file/memory-file.ts";
import { ImageError } from "../src/image-error.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { ENDLESS_ZSTD, WIDE_ZSTD, withCompressed } from "./hostile-clusters.ts";

const files = [
  withCompressed("zlib", deflateRawSync(new Uint8Array(64 << 20), { windowBits: 12 })),
  withCompressed("zstd", ENDLESS_ZSTD),
  withCompressed("zstd", WIDE_ZSTD),
];
/** Fields of the header that say how much there is: L1 entries, clusters of refcount table, snapshots, size. */
for (const [at, bytes] of [
  [36, [0xff, 0xff, 0xff, 0xff]],
  [56, [0x00, 0x10, 0x00, 0x00]],
  [60, [0xff, 0xff, 0xff, 0xff]],
  [24, [0x80, 0, 0, 0, 0, 0, 0, 0]],
] as const) {
  const file = new MemoryFile("hostile");
  createQcow2(file, { size: 1 << 20 });
  file.write(at, Uint8Array.from(bytes));
  files.push(file);
}

const before = process.resourceUsage().maxRSS;
const faults: string[] = [];
const attempt = (act: () => unknown): void => {
  try {
    act();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    faults.push(error.fault);
  }
};
for (const file of files) {
  attempt(() => {
    Qcow2Image.open(new MemoryFile("hostile", file.content(), true)).readAt(0, new Uint8Array(512));
    faults.push("none");
  });
  attempt(() => checkQcow2(new MemoryFile("hostile", file.content(), true)));
}
const mib = Math.round((process.resourceUsage().maxRSS - before) / 1024);
process.stdout.write(JSON.stringify({ mib, faults }));
