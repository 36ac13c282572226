import { spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImage } from "@northbridge/storage-qcow2";
import { stockGuest } from "./harness/find-guest.ts";
import { type CommandEnd, GuestProcess } from "./harness/guest-process.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const guest = await stockGuest("cloud");
const hasQemu = spawnSync("qemu-img", ["--version"]).status === 0;

/** How often the machine is killed: `NORTHBRIDGE_KILLS=100` for the whole campaign. */
const KILLS = Number(process.env["NORTHBRIDGE_KILLS"] ?? 3);

const BLOCK = 4096;
const BLOCKS = 256;

/** Writes blocks in a scattered order, says each one before it begins and once it is stable. */
const WRITER = (first: number): string =>
  `i=${first}; while :; do echo "[begin ""$i]"; ` +
  `yes $i | head -c ${BLOCK} | dd of=/dev/vda bs=${BLOCK} seek=$((i * 37 % ${BLOCKS})) conv=notrunc,fsync 2>/dev/null; ` +
  `echo "[stable ""$i]"; i=$((i + 1)); done\n`;

const contentOf = (value: number): Uint8Array => {
  const line = `${value}\n`;
  return new TextEncoder().encode(line.repeat(Math.ceil(BLOCK / line.length)).slice(0, BLOCK));
};

async function northbridge(...args: readonly string[]): Promise<CommandEnd> {
  await using process = new GuestProcess(args, { stdin: "ignore" });
  return await process.ended;
}

describe.skipIf(!hasQemu)("a guest on a qcow2 overlay over a compressed image", () => {
  it(`loses nothing that was stable in ${KILLS} kills`, { timeout: 900_000 + KILLS * 120_000 }, async () => {
    if ("missing" in guest) throw new Error(guest.missing);
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    const original = new Uint8Array(BLOCKS * BLOCK);
    for (let index = 0; index < BLOCKS; index += 1) original.set(contentOf(100_000 + index), index * BLOCK);
    await writeFile(at("original.raw"), original);
    expect(
      await northbridge(
        "img",
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        "-c",
        at("original.raw"),
        at("base.qcow2"),
      ),
    ).toMatchObject({ code: 0 });
    expect(
      await northbridge(
        "img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "base.qcow2",
        "-F",
        "qcow2",
        at("disk.qcow2"),
      ),
    ).toMatchObject({ code: 0 });
    const devices = [{ plugin: "virtioBlk", disk: { kind: "qcow2", path: at("disk.qcow2") } }];
    const machine = await machineFile(directory.path, linuxConfig({ ...guest.files, devices }));

    /** By block: what it may hold. */
    const allowed = Array.from({ length: BLOCKS }, (_, index) => [100_000 + index]);
    let next = 1;
    for (let kill = 0; kill < KILLS; kill += 1) {
      await using shell = await GuestShell.boot([machine, "--timeout", "600"]);
      const sum = await shell.ask(`dd if=/dev/vda bs=${BLOCK} count=${BLOCKS} 2>/dev/null | md5sum`);
      const before = await readDisk(at("disk.qcow2"));
      expect(sum.split(" ")[0], "what the guest reads after a kill").toBe(before.md5);
      shell.process.type(WRITER(next));
      await shell.process.waitFor(new RegExp(`\\[stable ${next + 3 + ((kill * 7) % 23)}\\]`));
      shell.process.kill("SIGKILL");
      await shell.process.ended;
      for (const [, kind, text] of shell.process.out.matchAll(/\[(begin|stable) (\d+)\]/g)) {
        const value = Number(text);
        const block = (value * 37) % BLOCKS;
        if (kind === "begin") allowed[block]?.push(value);
        else allowed[block] = [value];
        next = Math.max(next, value + 1);
      }
      // The guest may have begun one more that it could not say any more.
      allowed[(next * 37) % BLOCKS]?.push(next);

      const check = spawnSync("qemu-img", ["check", "-f", "qcow2", at("disk.qcow2")], { encoding: "utf8" });
      expect([0, 3], `${check.stdout}${check.stderr}`).toContain(check.status);
      const { bytes } = await readDisk(at("disk.qcow2"));
      for (const [block, values] of allowed.entries()) {
        const found = bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
        // A block is eight sectors: a kill may leave old and new ones of a write that was not stable.
        for (let sector = 0; sector < BLOCK; sector += 512) {
          const same = values.some(
            (value) =>
              Buffer.compare(
                found.subarray(sector, sector + 512),
                contentOf(value).subarray(sector, sector + 512),
              ) === 0,
          );
          expect(same, `kill ${kill}: block ${block}, expected one of ${values.join(", ")}`).toBe(true);
        }
      }
      next += 1;
    }
    expect(Buffer.compare(await readFile(at("original.raw")), original)).toBe(0);
  });
});

async function readDisk(path: string): Promise<{ readonly bytes: Uint8Array; readonly md5: string }> {
  const image = openImage(path, { format: "qcow2", readOnly: true, forceShare: true });
  const bytes = new Uint8Array(image.size);
  await image.read(0, [bytes]);
  image.closeNow();
  const md5 = spawnSync("md5sum", { input: bytes, encoding: "utf8" }).stdout.split(" ")[0] ?? "";
  return { bytes, md5 };
}
