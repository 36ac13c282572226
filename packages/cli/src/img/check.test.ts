import { copyFileSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hasQemu, ours, qemu, scratchDirectory } from "../testing/img-tools.ts";

const directory = scratchDirectory();
const at = (name: string): string => join(directory, name);
const DISK = 64 << 10;

/** A disk with data everywhere, as qemu-img makes it. */
function makeImage(...options: readonly string[]): Buffer {
  const bytes = Buffer.alloc(DISK);
  for (let index = 0; index < DISK; index += 1) bytes[index] = 1 + ((index * 31 + (index >>> 9)) % 255);
  writeFileSync(at("src.raw"), bytes);
  const args = ["convert", "-f", "raw", "-O", "qcow2", ...options, "src.raw", "good.qcow2"];
  expect(qemu(directory, "qemu-img", ...args)).toMatchObject({ code: 0 });
  return readFileSync(at("good.qcow2"));
}

interface Codes {
  readonly check: number | null;
  readonly repair: number | null;
  readonly again: number | null;
}

/** What checks of a damaged image exit with, QEMU's on one copy and ours on another. */
async function codes(): Promise<{ readonly theirs: Codes; readonly mine: Codes; readonly said: string }> {
  copyFileSync(at("mine.qcow2"), at("theirs.qcow2"));
  const check = ["check", "-f", "qcow2"];
  const repair = ["check", "-r", "all", "-f", "qcow2"];
  const theirs = (args: readonly string[]) => qemu(directory, "qemu-img", ...args, "theirs.qcow2").code;
  const mine = (args: readonly string[]) => ours(directory, ...args, "mine.qcow2");
  const first = await mine(check);
  const repaired = await mine(repair);
  return {
    theirs: { check: theirs(check), repair: theirs(repair), again: theirs(check) },
    mine: { check: first.code, repair: repaired.code, again: (await mine(check)).code },
    said: first.err + repaired.err,
  };
}

/**
 * Of an image that it cannot repair QEMU says 1 where the new refcounts that it tries to make get into the way of what is
 * lost, and 2 where not; ours tries nothing then.
 */
function expectAlike({ theirs, mine, said }: Awaited<ReturnType<typeof codes>>, what: string): void {
  const isLost = mine.repair === 2 && theirs.repair === 1;
  const expected = isLost ? { ...theirs, repair: 2 } : theirs;
  expect(mine, `${what}: ${said}`).toEqual(expected);
  const after = qemu(directory, "qemu-img", "check", "-f", "qcow2", "mine.qcow2");
  expect(after.code, `${what}: what QEMU says of ours: ${after.err}`).toBe(mine.again);
}

describe.skipIf(!hasQemu)("check beside qemu-img", () => {
  it.each([
    [16384, ["-o", "cluster_size=16K"]],
    [16384, ["-o", "cluster_size=16K,extended_l2=on"]],
    [16384, ["-o", "cluster_size=16K,compat=0.10"]],
    [4096, ["-c", "-o", "cluster_size=4K"]],
  ])("exits alike for an image cut off around each cluster of %i, %j", async (clusterSize, options) => {
    const { length } = makeImage(...options);
    for (let end = clusterSize; end < length; end += clusterSize) {
      for (const by of [-3, 0, 3]) {
        copyFileSync(at("good.qcow2"), at("mine.qcow2"));
        truncateSync(at("mine.qcow2"), end + by);
        expectAlike(await codes(), `${end + by} of ${length} bytes`);
        expect(statSync(at("mine.qcow2")).size).toBeGreaterThanOrEqual(end + by);
      }
    }
  });

  it("keeps an L1 or L2 entry with any bit flipped, and all that it means, unless the tables still agree", async () => {
    const good = makeImage("-o", "cluster_size=4K");
    const l1 = Number(good.readBigUInt64BE(40));
    const l2 = Number(good.readBigUInt64BE(l1) & 0xfffffffffffe00n);
    for (const entry of [l1, l2 + 8]) {
      for (let bit = 0; bit < 64; bit += 1) {
        const bytes = Buffer.from(good);
        const flip = (): void => {
          bytes.writeUInt8(
            bytes.readUInt8(entry + 7 - (bit >>> 3)) ^ (1 << (bit & 7)),
            entry + 7 - (bit >>> 3),
          );
        };
        flip();
        writeFileSync(at("mine.qcow2"), bytes);
        const what = `bit ${bit} of the entry at ${entry}`;
        const found = await codes();
        expectAlike(found, what);
        if (found.mine.repair !== 2) continue;
        expect(found.said, what).toMatch(entry === l1 ? /L1 table, entry 0|cluster \d+/ : /guest cluster/);
        readFileSync(at("mine.qcow2")).copy(bytes);
        flip();
        writeFileSync(at("mine.qcow2"), bytes);
        const same = ["compare", "-f", "raw", "-F", "qcow2", "src.raw", "mine.qcow2"];
        expect(qemu(directory, "qemu-img", ...same), what).toMatchObject({ code: 0 });
      }
    }
  });
});
