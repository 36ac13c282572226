import { existsSync } from "node:fs";
import { join } from "node:path";
import { builtInHypervisor, builtInRegistry } from "@northbridge/cli";
import { FaultyBlock, MemoryBlock } from "@northbridge/core";
import { defineHostEnd } from "@northbridge/sdk";
import { type BootedLinux, bootLinux, type LinuxGuest } from "@northbridge/sdk/host";
import * as v from "valibot";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";

const directory = process.env["NORTHBRIDGE_GUEST"] ?? join(import.meta.dirname, "../linux-serial/guest");
const hasGuest = existsSync(join(directory, "vmlinuz"));

/** The disk of the machine that was made last. */
let disk: FaultyBlock;

/** `{ kind: lab }`: a disk in memory that fails as the test says. */
const lab = defineHostEnd({
  kind: "lab",
  of: "block",
  options: v.strictObject({}),
  open(_options, { clock }) {
    disk = new FaultyBlock(new MemoryBlock(new Uint8Array(8 << 20), { readOnly: false }), { clock });
    return disk;
  },
});

/** Without a guest (`northbridge guest linux --out examples/linux-serial/guest`) there is nothing to test. */
describe.skipIf(!hasGuest)(
  "a file system on a disk that fails (needs examples/linux-serial/guest)",
  { timeout: 600_000 },
  () => {
    let linux: BootedLinux;
    let guest: LinuxGuest;

    beforeAll(async () => {
      const registry = builtInRegistry();
      registry.hostEnds.add(lab);
      linux = await bootLinux({
        hypervisor: builtInHypervisor("soft"),
        registry,
        kernel: join(directory, "vmlinuz"),
        initrd: join(directory, "initrd.img"),
        devices: [{ plugin: "virtioBlk", disk: { kind: "lab" } }],
      });
    }, 600_000);
    afterAll(() => linux.close());

    // Each test has a guest from right after boot, with an empty disk: a tenth of a second.
    beforeEach(async () => {
      guest = await linux.guest();
      const made = await guest.exec("mke2fs -F /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt");
      expect(made).toMatchObject({ stderr: "", status: 0 });
      return () => guest.stop();
    });

    it("reads again what it could not read once", async () => {
      await guest.push("/mnt/file", "precious\n");
      await guest.exec("sync; echo 3 > /proc/sys/vm/drop_caches");
      disk.fail({ error: "EIO", on: "read" });
      const failed = await guest.exec("cat /mnt/file");
      expect(failed).toMatchObject({
        stdout: "",
        status: 1,
        stderr: expect.stringMatching(/I\/O error|Input\/output/),
      });
      disk.heal();
      expect(await guest.exec("cat /mnt/file")).toMatchObject({ stdout: "precious\n", status: 0 });
    });

    it("says so when what it writes does not arrive", async () => {
      disk.fail({ error: "EIO", on: "write" });
      const written = await guest.exec("dd if=/dev/zero of=/mnt/file bs=4k count=4 conv=fsync");
      expect(written).toMatchObject({ status: 1, stderr: expect.stringMatching(/I\/O error|Input\/output/) });
      disk.heal();
      expect((await guest.exec("dmesg")).stdout).toMatch(/I\/O error, dev vda, sector \d+/);
    });

    it("gets through one bad moment of a slow disk", async () => {
      disk.failNext("EIO", { on: "flush" });
      await guest.exec("echo a > /mnt/a; sync");
      // The moment was there: the guest has met the error, and nothing waits for another flush.
      expect(disk.failed).toBe(1);
      expect((await guest.exec("dmesg")).stdout).toMatch(/I\/O error, dev vda/);
      await guest.exec("echo b > /mnt/b; sync; echo 3 > /proc/sys/vm/drop_caches");
      expect(await guest.exec("cat /mnt/b")).toMatchObject({ stdout: "b\n", status: 0 });
    });
  },
);
