import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { createQcow2, type Qcow2CreateOptions } from "../src/qcow2/create.ts";
import { inDirectory, qemu, qemuImg, Random } from "./qemu.ts";
import { contentOf, expectClean, open, same } from "./writing-guest.ts";

const LAYOUTS: Qcow2CreateOptions[] = [];
for (let clusterBits = 9; clusterBits <= 21; clusterBits += 1) {
  // Each width of counts comes twice or once, and so do both versions and both kinds of compression.
  const refcountBits = 2 ** (clusterBits % 7);
  const layout = { size: 1 << 20, clusterSize: 2 ** clusterBits };
  LAYOUTS.push({ ...layout, refcountBits, compressionType: clusterBits % 2 === 0 ? "zstd" : "zlib" });
  LAYOUTS.push({ ...layout, version: 2 });
  if (clusterBits >= 14) LAYOUTS.push({ ...layout, extendedL2: true, refcountBits: 64 });
}

const named = ({
  version = 3,
  clusterSize,
  refcountBits = 16,
  extendedL2 = false,
}: Qcow2CreateOptions): string =>
  `version ${version}, clusters of ${clusterSize}, counts of ${refcountBits} bits${extendedL2 ? ", extended L2" : ""}`;

describe.skipIf(qemuImg === undefined)("every layout", () => {
  it.each(LAYOUTS.map((layout) => [named(layout), layout] as const))(
    "is written here and there: %s",
    async (_, layout) => {
      await inDirectory((directory) => {
        const path = join(directory, "a.qcow2");
        const file = NodeFile.open(path, { create: true });
        createQcow2(file, layout);
        file.close();
        const random = new Random(layout.clusterSize ?? 0);
        const model = random.bytes(layout.size);
        const image = open(path);
        const { clusterSize } = image.meta;
        for (let at = 0; at < layout.size; at += clusterSize) {
          const bytes = model.subarray(at, Math.min(at + clusterSize, layout.size));
          if (random.chance(3) && bytes.length === clusterSize) image.writeCompressedCluster(at, bytes);
          else image.writeAt(at, bytes);
        }
        image.writeZeroesAt(65536, 131072, true);
        model.fill(0, 65536, 65536 + 131072);
        image.closeNow();
        expectClean(path);

        const writes = [
          "write -P 3 1000 70000",
          "write -z 500000 30000",
          "discard 0 512",
          "write -P 4 0 512",
        ];
        const commands = writes.flatMap((command) => ["-c", command]);
        expect(qemu("qemu-io", "-f", "qcow2", ...commands, path)).toMatchObject({ status: 0 });
        model.fill(3, 1000, 71000).fill(0, 500000, 530000).fill(4, 0, 512);
        const reader = openImage(path, { format: "qcow2", readOnly: true });
        expect(same(contentOf(reader), model)).toBe(true);
        reader.closeNow();
        writeFileSync(join(directory, "model"), model);
        const compare = ["compare", "-f", "raw", "-F", "qcow2", join(directory, "model"), path];
        expect(qemu("qemu-img", ...compare)).toMatchObject({ status: 0 });
      });
    },
  );
});
