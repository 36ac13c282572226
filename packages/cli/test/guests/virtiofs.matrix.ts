import { mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { initrdWith, program, stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { hostAnswer } from "./harness/host-answer.ts";
import { missingTools, runTool } from "./harness/host-tools.ts";
import { fileStorm, LOOK } from "./harness/file-storm.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const guest = await stockGuest("cloud");
const noGit = missingTools("git");

/** Boots a machine that has `shared` mounted at /mnt. */
async function withShare(
  options: { readonly device?: object; readonly vcpus?: number; readonly git?: boolean },
  use: (shell: GuestShell, path: (name: string) => string) => Promise<void>,
): Promise<void> {
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const path = (name: string): string => join(directory.path, name);
  await mkdir(path("shared"));
  const extra = options.git === true ? await program("/usr/bin/git", "/opt/git") : [];
  const files = await initrdWith(guest.files, extra, path("initrd.img"));
  const devices = [
    {
      plugin: "virtioFs",
      tag: "work",
      directory: { kind: "directory", path: "shared" },
      queues: options.vcpus ?? 1,
      ...options.device,
    },
  ];
  const vcpus = options.vcpus ?? 1;
  const file = await machineFile(directory.path, linuxConfig({ ...files, devices, vcpus, mib: 512 }));
  await using shell = await GuestShell.boot([file, "--timeout", "1500"]);
  await shell.ask("mount -t virtiofs work /mnt");
  await use(shell, path);
  expect(
    await shell.run("dmesg | grep -iE 'call trace|bug:|rcu.*stall|lockup|fuse.*(bad|fail)'"),
  ).toMatchObject({
    text: "",
  });
  expect(await shell.end("umount /mnt; poweroff -f")).toMatchObject({ code: 0, err: "" });
}

describe("virtiofs", () => {
  it.each([1, 2])("gives a tree the host's own after a storm of small files, %i vCPUs", async (vcpus) => {
    await withShare({ vcpus }, async (shell, path) => {
      await mkdir(path("twin"));
      await hostAnswer(`cd "${path("twin")}" && ${fileStorm()}`);
      await writeFile(path("shared/storm"), fileStorm());
      await writeFile(path("shared/look"), LOOK);
      await shell.ask("export TZ=$TZ LC_ALL=C; mkdir /mnt/work && cd /mnt/work && sh -e ../storm && cd /");
      const expected = await hostAnswer(`cd "${path("twin")}" && ${LOOK}`);
      expect(expected.split("\n").length).toBeGreaterThan(500);
      expect(await shell.ask("cd /mnt/work && sh ../look; cd /")).toBe(expected);
      expect(await hostAnswer(`cd "${path("shared/work")}" && ${LOOK}`)).toBe(expected);
      // And a guest that has forgotten everything sees the same.
      await shell.ask("umount /mnt && mount -t virtiofs work /mnt");
      expect(await shell.ask("cd /mnt/work && sh ../look; cd /")).toBe(expected);
      await shell.ask("rm -rf /mnt/work");
      expect((await readdir(path("shared"))).sort()).toEqual(["look", "storm"]);
    });
  });

  it.skipIf(noGit !== undefined)(
    "is a work tree that git agrees about on both sides (needs git)",
    async () => {
      await withShare({ git: true }, async (shell, path) => {
        const repository = path("shared/repo");
        const git = (...args: readonly string[]): Promise<string> =>
          runTool("git", "-C", repository, "-c", "user.name=T", "-c", "user.email=t@example.org", ...args);
        await mkdir(repository);
        await git("init", "-q");
        for (let i = 0; i < 200; i++) await writeFile(join(repository, `file-${i}.txt`), `${i}\n`.repeat(i));
        await git("add", "-A");
        await git("commit", "-qm", "all");
        const ask = (command: string): Promise<string> =>
          shell.ask(
            `cd /mnt/repo && HOME=/tmp GIT_CONFIG_NOSYSTEM=1 /opt/git -c safe.directory='*' ${command}; cd /`,
          );
        expect(await ask("status --porcelain")).toBe("");
        await shell.ask(
          "cd /mnt/repo; echo more >> file-3.txt; rm file-4.txt; mv file-5.txt moved.txt; echo new > new; cd /",
        );
        const status = await ask("status --porcelain");
        expect(status.split("\n").length).toBe(5);
        expect((await git("status", "--porcelain")).trim()).toBe(status);
        await ask("add -A");
        await ask("-c user.name=G -c user.email=g@example.org commit -qm 'from the guest'");
        expect(await git("status", "--porcelain")).toBe("");
        expect(await git("fsck", "--strict")).toBe("");
        expect((await git("rev-parse", "HEAD")).trim()).toBe(await ask("rev-parse HEAD"));
      });
    },
  );

  it("shows nothing of the host but the directory", async () => {
    await withShare({}, async (shell, path) => {
      await writeFile(path("secret"), "the host's secret\n");
      await symlink(path("secret"), path("shared/absolute"));
      await symlink("../secret", path("shared/relative"));
      await symlink("..", path("shared/up"));
      for (const name of ["absolute", "relative", "up/secret", "../secret", "up/../secret"]) {
        expect((await shell.run(`cat /mnt/${name} 2>/dev/null`)).text).toBe("");
      }
      await shell.ask("mkdir /mnt/d && ln -s /mnt/../secret /mnt/d/own && ln -s ../../.. /mnt/d/top");
      expect((await shell.run("cat /mnt/d/own /mnt/d/top/secret 2>/dev/null")).text).toBe("");
      // The guest's link writes in the guest, whatever it means on the host.
      await shell.ask(`ln -s ${path("secret")} /mnt/d/trap; mkdir -p ${path("")}; echo theirs > /mnt/d/trap`);
      expect(await readFile(path("secret"), "utf8")).toBe("the host's secret\n");
      // The host moves a directory out of the tree while the guest is in it.
      await shell.ask("mkdir /mnt/in && cd /mnt/in");
      await runTool("mv", path("shared/in"), path("out"));
      await shell.run("echo x > inside; cat ../secret; cd /");
      expect((await readdir(path(""))).filter((name) => name === "inside")).toEqual([]);
      expect((await shell.run("mknod /mnt/null c 1 3")).status).not.toBe(0);
    });
  });

  it("cannot be changed where it is read only", async () => {
    await withShare({ device: { readOnly: true } }, async (shell, path) => {
      await writeFile(path("shared/file"), "text\n");
      expect(await shell.ask("cat /mnt/file")).toBe("text");
      for (const change of ["touch /mnt/new", "rm /mnt/file", "echo x > /mnt/file", "chmod 777 /mnt/file"]) {
        expect((await shell.run(`${change} 2>&1`)).text).toContain("Read-only file system");
      }
      expect(await readdir(path("shared"))).toEqual(["file"]);
    });
  });

  it("shows everything as the squashed owner's", async () => {
    const device = { directory: { kind: "directory", path: "shared", squash: { uid: 1000, gid: 1001 } } };
    await withShare({ device }, async (shell, path) => {
      await shell.ask("touch /mnt/file && chown 5:6 /mnt/file");
      expect(await shell.ask("stat -c '%u %g' /mnt/file")).toBe("1000 1001");
      const { uid, gid } = await stat(path("shared/file"));
      expect([uid, gid]).toEqual([process.getuid?.(), process.getgid?.()]);
    });
  });

  it("moves large files whole, both ways", async () => {
    await withShare({}, async (shell, path) => {
      const bytes = Uint8Array.from({ length: 5_000_001 }, (_, i) => Math.imul(i, 40_503) >>> 7);
      await writeFile(path("shared/in"), bytes);
      await shell.ask("cat /mnt/in > /tmp/copy && dd if=/tmp/copy of=/mnt/out bs=1M conv=fsync 2>/dev/null");
      expect(Buffer.compare(await readFile(path("shared/out")), bytes)).toBe(0);
      await shell.ask(
        "dd if=/tmp/copy of=/mnt/direct bs=4096 count=100 oflag=direct 2>/dev/null || true; sync",
      );
      await shell.ask("fallocate -l 100000 /mnt/allocated; truncate -s 10G /mnt/sparse");
      expect((await stat(path("shared/allocated"))).size).toBe(100_000);
      expect((await stat(path("shared/sparse"))).size).toBe(10 * 2 ** 30);
      expect(await shell.ask("df -P /mnt | tail -1 | awk '{ print $1 }'")).toBe("work");
    });
  });
});
