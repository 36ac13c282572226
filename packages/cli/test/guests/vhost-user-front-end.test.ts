import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fileStorm, LOOK } from "./harness/file-storm.ts";
import { exampleGuest } from "./harness/find-guest.ts";
import { ForeignBackEnd } from "./harness/foreign-back-end.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { hostAnswer } from "./harness/host-answer.ts";
import { hostTool, missingTools } from "./harness/host-tools.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const MIB = 1 << 20;
const BOOT_MS = 300_000;
const STORAGE_DAEMON = "qemu-storage-daemon";
/** QEMU's own file server, in C: Debian's qemu-system-common has it. */
const VIRTIOFSD = "/usr/lib/qemu/virtiofsd";

const guest = await exampleGuest();
const noGuest = "missing" in guest ? guest.missing : undefined;
const noDisk = noGuest ?? missingTools(STORAGE_DAEMON);
const noFiles = noGuest ?? whyNoFiles();

function whyNoFiles(): string | undefined {
  if (!existsSync(VIRTIOFSD)) return `this host has no ${VIRTIOFSD}`;
  return process.getuid?.() === 0 ? undefined : `${VIRTIOFSD} needs root`;
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

describe.skipIf(noDisk !== undefined && noFiles !== undefined)(
  "back ends of others under a stock guest",
  () => {
    const before = randomBytes(4 * MIB);
    const kept = new AsyncDisposableStack();
    let path: (name: string) => string;
    let shell: GuestShell;
    let storage: ForeignBackEnd | undefined;

    const serveDisk = (): Promise<ForeignBackEnd> => {
      const at = `addr.type=unix,addr.path=${path("blk.sock")}`;
      const args = [
        ...["--blockdev", `driver=file,filename=${path("disk.img")},node-name=file`],
        ...["--blockdev", "driver=raw,file=file,node-name=disk"],
        ...["--export", `type=vhost-user-blk,id=export,node-name=disk,writable=on,${at}`],
      ];
      return ForeignBackEnd.start(hostTool(STORAGE_DAEMON), args, path("blk.sock"));
    };
    const serveFiles = (): Promise<ForeignBackEnd> => {
      // The sandbox and the limit of a container.
      const args = [
        "-f",
        `--socket-path=${path("fs.sock")}`,
        "-o",
        `source=${path("shared")},sandbox=chroot`,
      ];
      return ForeignBackEnd.start(VIRTIOFSD, args, path("fs.sock"));
    };

    // One boot for both.
    beforeAll(async () => {
      if ("missing" in guest) return;
      const directory = kept.use(await scratch());
      path = (name) => join(directory.path, name);
      await writeFile(path("disk.img"), before);
      await mkdir(path("shared"));
      const devices: object[] = [];
      if (noDisk === undefined) {
        storage = await serveDisk();
        kept.defer(() => storage?.[Symbol.asyncDispose]());
        devices.push({ plugin: "vhostUserBlk", path: path("blk.sock") });
      }
      if (noFiles === undefined) {
        kept.use(await serveFiles());
        devices.push({ plugin: "vhostUserFs", path: path("fs.sock"), tag: "theirs" });
      }
      const machine = await machineFile(directory.path, linuxConfig({ ...guest.files, devices }));
      shell = kept.use(await GuestShell.boot([machine, "--backend", "soft", "--timeout", "280"]));
    }, BOOT_MS);

    afterAll(() => kept.disposeAsync());

    it("uses a disk of QEMU's storage daemon, which is killed while the guest writes", {
      timeout: BOOT_MS,
    }, async (context) => {
      if (noDisk !== undefined) return context.skip(noDisk);
      expect(await shell.ask("sha256sum < /dev/vda")).toContain(sha256(before));
      await shell.ask("seq 1 400000 | head -c 2097152 > /tmp/data");
      await shell.ask(
        "(dd if=/tmp/data of=/dev/vda bs=64k oflag=direct 2>/dev/null; dd if=/tmp/data of=/dev/vda bs=64k seek=32 oflag=direct conv=fsync 2>/dev/null; echo $? > /tmp/done) &",
      );
      await storage?.[Symbol.asyncDispose]();
      storage = await serveDisk();
      await shell.ask("while ! [ -s /tmp/done ]; do sleep 0.1; done");
      expect(await shell.ask("cat /tmp/done")).toBe("0");
      const sum = (await shell.ask("sha256sum < /tmp/data")).split(" ")[0];
      const after = await readFile(path("disk.img"));
      for (const at of [0, 2 * MIB]) expect(sha256(after.subarray(at, at + 2 * MIB))).toBe(sum);
      expect(await shell.ask("sha256sum < /dev/vda")).toContain(sha256(after));
    });

    it("mounts a directory of the C virtiofsd, and leaves a tree the host's own after a storm of files", {
      timeout: BOOT_MS,
    }, async (context) => {
      if (noFiles !== undefined) return context.skip(noFiles);
      const storm = fileStorm("a");
      await mkdir(path("twin"));
      await hostAnswer(`cd "${path("twin")}" && ${storm}`);
      const expected = await hostAnswer(`cd "${path("twin")}" && ${LOOK}`);
      await writeFile(path("shared/storm"), storm);
      await writeFile(path("shared/look"), LOOK);
      await writeFile(path("shared/in"), before.subarray(0, MIB));
      await shell.ask("mount -t virtiofs theirs /mnt");
      expect(await shell.ask("sha256sum < /mnt/in")).toContain(sha256(before.subarray(0, MIB)));
      await shell.ask("seq 1 400000 | tee /tmp/out | dd of=/mnt/out bs=64k conv=fsync 2>/dev/null");
      const sum = (await shell.ask("sha256sum < /tmp/out")).split(" ")[0];
      expect(sha256(await readFile(path("shared/out")))).toBe(sum);
      await shell.ask("export TZ=$TZ LC_ALL=C; mkdir /mnt/work && cd /mnt/work && sh -e ../storm && cd /");
      // The guest forgets all that it knew of the tree.
      await shell.ask("umount /mnt && mount -t virtiofs theirs /mnt");
      expect(await shell.ask("cd /mnt/work && sh ../look; cd /")).toBe(expected);
      expect(await hostAnswer(`cd "${path("shared/work")}" && ${LOOK}`)).toBe(expected);
      await shell.ask("umount /mnt");
    });

    it("finds nothing that the guest's kernel would complain of", async () => {
      expect(await shell.run("dmesg | grep -iE 'I/O error|call trace|blocked for'")).toMatchObject({
        text: "",
      });
      expect(await shell.end()).toMatchObject({ code: 0 });
    });
  },
);
