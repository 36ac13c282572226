import { spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImage } from "@northbridge/storage-qcow2";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestProcess } from "./harness/guest-process.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";
import { MonitorClient } from "./harness/monitor-client.ts";

const guest = await stockGuest("cloud");
const hasQemu = spawnSync("qemu-img", ["--version"]).status === 0;
if (!hasQemu) process.stderr.write("qcow2 guests: skipped, since qemu-img is not installed\n");

/** How often the machine is killed: `NORTHBRIDGE_KILLS=100` for the whole campaign. */
const KILLS = Number(process.env["NORTHBRIDGE_KILLS"] ?? 3);

const BLOCK = 4096;
const BLOCKS = 256;

const WRITE =
  `yes $i | head -c ${BLOCK} | ` +
  `dd of=/dev/vda bs=${BLOCK} seek=$((i * 37 % ${BLOCKS})) conv=notrunc,fsync 2>/dev/null`;

/** Writes blocks in a scattered order, says each one before it begins and once it is stable. */
const WRITER = (first: number): string =>
  `i=${first}; while :; do echo "[begin ""$i]"; ${WRITE}; echo "[stable ""$i]"; i=$((i + 1)); done\n`;

const contentOf = (value: number): Uint8Array => {
  const line = `${value}\n`;
  return new TextEncoder().encode(line.repeat(Math.ceil(BLOCK / line.length)).slice(0, BLOCK));
};

async function img(...args: readonly string[]): Promise<void> {
  await using process = new GuestProcess(["img", ...args], { stdin: "ignore" });
  expect(await process.ended).toMatchObject({ code: 0 });
}

const check = (path: string): void => {
  const { status, stdout, stderr } = spawnSync("qemu-img", ["check", "-f", "qcow2", path], {
    encoding: "utf8",
  });
  expect([0, 3], `${path}: ${stdout}${stderr}`).toContain(status);
};

/** What the base holds: block n has the text of 100000 + n. */
const ORIGINAL: Uint8Array = (() => {
  const bytes = new Uint8Array(BLOCKS * BLOCK);
  for (let index = 0; index < BLOCKS; index += 1) bytes.set(contentOf(100_000 + index), index * BLOCK);
  return bytes;
})();

/** Makes `disk.qcow2` over a compressed `base.qcow2`, and a machine that has it. */
async function machineWithOverlay(directory: string): Promise<string> {
  if ("missing" in guest) throw new Error(guest.missing);
  const at = (name: string): string => join(directory, name);
  await writeFile(at("original.raw"), ORIGINAL);
  await img("convert", "-f", "raw", "-O", "qcow2", "-c", at("original.raw"), at("base.qcow2"));
  await img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", at("disk.qcow2"));
  const disk = { kind: "qcow2", path: at("disk.qcow2") };
  const devices = [{ plugin: "virtioBlk", id: "disk", disk }];
  return machineFile(directory, linuxConfig({ ...guest.files, mib: 128, devices }));
}

describe.skipIf(!hasQemu)("a guest on a qcow2 overlay over a compressed image", () => {
  it(`loses nothing that was stable in ${KILLS} kills`, { timeout: 900_000 + KILLS * 120_000 }, async () => {
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    const machine = await machineWithOverlay(directory.path);
    // One boot for all: the guest has not looked at its disk when it is saved.
    const snapshot = at("booted");
    const first = await GuestShell.boot([machine, "--timeout", "900", "--save-on", "SAVE ME", snapshot]);
    expect(await first.end('echo SAVE" "ME')).toMatchObject({ code: 0 });

    /** By block: what it may hold. */
    const allowed = Array.from({ length: BLOCKS }, (_, index) => [100_000 + index]);
    let next = 1;
    for (let kill = 0; kill < KILLS; kill += 1) {
      await using shell = GuestShell.restored(["--restore", snapshot, "--timeout", "600"]);
      const sum = await shell.ask(`dd if=/dev/vda bs=${BLOCK} count=${BLOCKS} 2>/dev/null | md5sum`);
      const before = await readDisk(at("disk.qcow2"));
      expect(sum.split(" ")[0], "what the guest reads after a kill").toBe(before.md5);
      shell.process.type(WRITER(next));
      await shell.process.waitFor(new RegExp(`\\[stable ${next + 1 + ((kill * 7) % 11)}\\]`));
      // Anywhere in the next write.
      await new Promise((resolve) => setTimeout(resolve, (kill * 29) % 97));
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

      check(at("disk.qcow2"));
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
    expect(Buffer.compare(await readFile(at("original.raw")), ORIGINAL)).toBe(0);
  });

  it("writes while its disk is backed up, snapshot, committed, streamed and mirrored", async () => {
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    const machine = await machineWithOverlay(directory.path);
    await using shell = await GuestShell.boot([machine, "--timeout", "800", "--monitor", at("monitor")]);
    await using monitor = await MonitorClient.connect(at("monitor"));
    const finished = (state: string): Promise<string> =>
      monitor.until("block status disk.disk", new RegExp(`: (${state}$|failed|cancelled)`));

    await shell.ask(`(i=1; while [ ! -e /stop ]; do ${WRITE}; i=$((i + 1)); done; touch /stopped) & sleep 1`);
    expect(await monitor.ask("block bitmap add disk.disk b")).toBe("bitmaps: b");
    expect(await monitor.ask(`block backup disk.disk ${at("full.qcow2")} b`)).toMatch(/has begun$/);
    expect(await finished("done")).toBe(`backup to ${at("full.qcow2")}: done`);
    await shell.ask("sleep 1");
    expect(await monitor.ask(`block backup disk.disk ${at("more.qcow2")} b ${at("full.qcow2")}`)).toMatch(
      /begun$/,
    );
    expect(await finished("done")).toBe(`backup to ${at("more.qcow2")}: done`);

    expect(await monitor.ask(`block snapshot disk.disk ${at("over.qcow2")}`)).toBe(
      `on ${at("over.qcow2")} now`,
    );
    await shell.ask("sleep 1");
    expect(await monitor.ask("block commit disk.disk base.qcow2")).toMatch(/has begun$/);
    expect(await finished("done")).toBe(`commit into ${at("base.qcow2")}: done`);
    expect(await monitor.ask(`block snapshot disk.disk ${at("two.qcow2")}`)).toMatch(/ now$/);
    await shell.ask("sleep 1");
    expect(await monitor.ask("block stream disk.disk")).toMatch(/has begun$/);
    expect(await finished("done")).toBe(`stream into ${at("two.qcow2")}: done`);
    expect(await monitor.ask(`block mirror disk.disk ${at("copy.qcow2")}`)).toMatch(/has begun$/);
    expect(await finished("ready")).toBe(`mirror to ${at("copy.qcow2")}: ready`);
    await shell.ask("sleep 1");
    expect(await monitor.ask("block complete disk.disk")).toBe(`mirror to ${at("copy.qcow2")}: done`);
    await shell.ask("sleep 1; touch /stop; while [ ! -e /stopped ]; do sleep 0.1; done; sync");
    // Not out of the guest's cache.
    await shell.ask("echo 3 > /proc/sys/vm/drop_caches");
    const sum = await shell.ask(`dd if=/dev/vda bs=${BLOCK} count=${BLOCKS} 2>/dev/null | md5sum`);
    expect(await shell.run("dmesg | grep -iE 'i/o error|call trace'")).toMatchObject({ text: "" });
    expect(await shell.end()).toMatchObject({ code: 0 });
    expect((await readDisk(at("copy.qcow2"))).md5).toBe(sum.split(" ")[0]);
    expect((await readDisk(at("copy.qcow2"))).bytes).not.toEqual(ORIGINAL);
    for (const name of ["base", "full", "more", "two", "copy"]) check(at(`${name}.qcow2`));
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
