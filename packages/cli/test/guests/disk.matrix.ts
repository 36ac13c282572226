import { createHash } from "node:crypto";
import { readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { CpioEntry } from "../../src/guest/index.ts";
import { initrdWith, program, stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { GuestProcess } from "./harness/guest-process.ts";
import { hostTool, missingTools, runTool } from "./harness/host-tools.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";
import { MonitorClient } from "./harness/monitor-client.ts";
import { monitor, withDevices } from "./harness/with-devices.ts";
import { ROOT_INIT, rootFileSystem } from "./harness/root-file-system.ts";

const MIB = 2 ** 20;
const guest = await stockGuest("cloud");
const noExt4 = missingTools("mke2fs", "debugfs", "e2fsck");

interface Booted {
  readonly shell: GuestShell;
  readonly monitor: MonitorClient;
  /** What a host path is called. */
  readonly path: (name: string) => string;
}

interface DiskMachine {
  /** Options of the device; `disk` defaults to `disk.img`. */
  readonly options?: object;
  readonly mib?: number;
  readonly vcpus?: number;
  readonly extra?: (directory: string) => Promise<readonly CpioEntry[]>;
  readonly prepare?: (image: string) => Promise<void>;
}

/** Boots a machine with a disk at /dev/vda, lets `use` have it, and powers it off. */
async function withDisk(machine: DiskMachine, use: (booted: Booted) => Promise<void>): Promise<void> {
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const path = (name: string): string => join(directory.path, name);
  const image = path("disk.img");
  await writeFile(image, "");
  await truncate(image, (machine.mib ?? 64) * MIB);
  await machine.prepare?.(image);
  const extra = (await machine.extra?.(directory.path)) ?? [];
  const files = await initrdWith(guest.files, extra, path("initrd.img"));
  const disk = { kind: "file", path: "disk.img" };
  const devices = [{ plugin: "virtioBlk", id: "disk", disk, ...machine.options }];
  const file = await machineFile(
    directory.path,
    linuxConfig({ ...files, devices, ...(machine.vcpus !== undefined && { vcpus: machine.vcpus }) }),
  );
  await using shell = await GuestShell.boot([file, "--timeout", "1500", "--monitor", path("monitor")]);
  await using monitor = await MonitorClient.connect(path("monitor"));
  await use({ shell, monitor, path });
  expect(await shell.run("dmesg | grep -iE 'call trace|bug:|rcu.*stall|lockup'")).toMatchObject({ text: "" });
  expect(await shell.end()).toMatchObject({ code: 0 });
}

/** A MiB that no two images have the same of, and what 100 of them in a row are. */
const PATTERN = Uint8Array.from({ length: MIB }, (_, i) => (Math.imul(i, 2_654_435_761) >>> 13) ^ (i >>> 12));
const COPIES = 100;
const pattern: CpioEntry = { kind: "file", path: "/pattern", mode: 0o644, bytes: PATTERN };
const WRITE_ALL = `i=0; while [ $i -lt ${COPIES} ]; do echo $i; cat /pattern; i=$((i+1)); done`;

function writtenDigest(): string {
  const hash = createHash("sha256");
  for (let i = 0; i < COPIES; i++) hash.update(`${i}\n`).update(PATTERN);
  return hash.digest("hex");
}

const sha256 = async (path: string): Promise<string> =>
  createHash("sha256")
    .update(await readFile(path))
    .digest("hex");

const blocksOf = async (path: string): Promise<number> => (await stat(path)).blocks * 512;

describe("a virtio disk", () => {
  it.skipIf(noExt4 !== undefined)(
    "is made an ext4 file system; what is written and synced is on the host, and gone again after fstrim (needs e2fsprogs)",
    async () => {
      const mkfs = await program(hostTool("mke2fs"), "/opt/mkfs.ext4");
      const extra = (): Promise<readonly CpioEntry[]> => Promise.resolve([...mkfs, pattern]);
      await withDisk({ mib: 256, extra }, async ({ shell, path }) => {
        await shell.ask("/opt/mkfs.ext4 -q -E nodiscard /dev/vda && mount -t ext4 /dev/vda /mnt");
        await shell.ask(`(${WRITE_ALL}) > /mnt/file && sync`);
        expect(await blocksOf(path("disk.img"))).toBeGreaterThan(COPIES * MIB);
        await shell.ask("umount /mnt");
        await runTool("debugfs", "-R", `dump /file ${path("file")}`, path("disk.img"));
        expect(await sha256(path("file"))).toBe(writtenDigest());
        await runTool("e2fsck", "-fn", path("disk.img"));

        await shell.ask("mount -t ext4 /dev/vda /mnt && rm /mnt/file && sync && fstrim /mnt");
        expect(await blocksOf(path("disk.img"))).toBeLessThan(20 * MIB);
        await shell.ask("umount /mnt && blkdiscard /dev/vda");
        expect(await blocksOf(path("disk.img"))).toBe(0);
        expect(await shell.ask("head -c 1048576 /dev/vda | tr -d '\\0' | wc -c")).toBe("0");
      });
    },
  );

  it.skipIf(noExt4 !== undefined)(
    "is the root of a system that boots to a login (needs e2fsprogs)",
    async () => {
      if ("missing" in guest) throw new Error(guest.missing);
      await using directory = await scratch();
      const path = (name: string): string => join(directory.path, name);
      await rootFileSystem(guest.files.initrd, path("root"), path("root.img"));
      const files = await initrdWith(guest.files, [ROOT_INIT], path("initrd.img"));
      const devices = [{ plugin: "virtioBlk", disk: { kind: "file", path: "root.img" } }];
      const file = await machineFile(directory.path, linuxConfig({ ...files, devices }));
      await using run = new GuestProcess(["run", file, "--timeout", "600"]);
      await run.waitFor(/northbridge login: $/);
      run.type("root\n");
      await run.waitFor(/# (\x1b\[6n)?$/);
      run.type("grep ' / ' /proc/mounts; hostname > /root/it-was-here; sync; poweroff\n");
      const { code, out } = await run.ended;
      expect(out).toMatch(/\/dev\/vda \/ ext4 rw/);
      expect(code).toBe(0);
      await runTool("e2fsck", "-fn", path("root.img"));
      expect(await runTool("debugfs", "-R", "cat /root/it-was-here", path("root.img"))).toBe("northbridge\n");
    },
  );

  it("cannot be written where it is read only", async () => {
    const prepare = (image: string): Promise<void> => writeFile(image, PATTERN);
    await withDisk({ options: { readOnly: true }, prepare }, async ({ shell, path }) => {
      expect(await shell.ask("blockdev --getro /dev/vda")).toBe("1");
      expect((await shell.run("dd if=/dev/zero of=/dev/vda bs=4k count=1")).status).not.toBe(0);
      expect(await shell.ask("sha256sum < /dev/vda")).toContain(await sha256(path("disk.img")));
    });
  });

  it("shows the host's errors as I/O errors of its sectors, and goes on", async () => {
    const disk = {
      kind: "faulty",
      disk: { kind: "file", path: "disk.img" },
      faults: [
        { error: "EIO", on: "read", sectors: [2048, 2055] },
        { error: "ENOSPC", on: "write", sectors: [4096, 4103] },
      ],
    };
    await withDisk({ options: { disk } }, async ({ shell }) => {
      expect(await shell.ask("dd if=/dev/vda of=/dev/null bs=4k count=1 skip=255 2>&1")).toContain(
        "1+0 records in",
      );
      const read = await shell.run("dd if=/dev/vda of=/dev/null bs=4k count=1 skip=256 2>&1");
      expect(read.status).not.toBe(0);
      expect(read.text).toContain("I/O error");
      expect(
        (await shell.run("dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=512 conv=fsync 2>&1")).status,
      ).not.toBe(0);
      const log = await shell.ask("dmesg | grep 'I/O error, dev vda'");
      expect(log).toMatch(/sector 2048 op 0x0:\(READ\)/);
      expect(log).toMatch(/sector 4096 op 0x1:\(WRITE\)/);
      await shell.ask("dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=513 conv=fsync");
    });
  });

  it("pauses the machine at the host's error, says why, and loses nothing when it goes on", async () => {
    const disk = {
      kind: "faulty",
      disk: { kind: "file", path: "disk.img" },
      faults: [{ error: "ENOSPC", on: "write", skip: 3, times: 2 }],
    };
    const extra = (): Promise<readonly CpioEntry[]> => Promise.resolve([pattern]);
    await withDisk({ options: { disk, onError: "stop" }, extra }, async ({ shell, monitor, path }) => {
      const writing = shell.ask("dd if=/pattern of=/dev/vda bs=64k oflag=direct 2>/dev/null; echo written");
      for (let paused = 0; paused < 2; paused++) {
        expect(await monitor.until("status", /^paused/)).toMatch(
          /^paused: disk: faulty disk: write at \d+: ENOSPC, /,
        );
        expect(await monitor.ask("resume")).toBe("running");
      }
      expect(await writing).toBe("written");
      expect(Buffer.compare((await readFile(path("disk.img"))).subarray(0, MIB), PATTERN)).toBe(0);
    });
  });

  it.each(["ENOSPC", "EIO"])(
    "does at the host's %s what each disk's policy says, and no other's",
    async (error) => {
      const faulty = { error, on: "write", skip: 1, times: 1 };
      const disk = (onError: string, order: number): object => ({
        plugin: "virtioBlk",
        id: onError,
        slot: 10 + order,
        disk: { kind: "faulty", disk: { kind: "memory", mib: 1 }, faults: [faulty] },
        onError,
      });
      await withDevices(
        () => ["report", "ignore", "stop"].map(disk),
        async (shell, directory) => {
          // The second of four blocks goes wrong.
          const copy = (device: string): string =>
            `i=0; for c in A B C D; do head -c 65536 /dev/zero | tr '\\0' $c > /tmp/block; ` +
            `dd if=/tmp/block of=/dev/${device} bs=64k seek=$i oflag=direct 2>/dev/null || echo failed; i=$((i+1)); done`;
          const blocks = (device: string): Promise<string> =>
            shell.ask(
              `echo 3 > /proc/sys/vm/drop_caches; for i in 0 1 2 3; do dd if=/dev/${device} bs=64k skip=$i count=1 2>/dev/null | tr '\\0' 0 | head -c 1; done`,
            );
          await shell.ask("dmesg -n 1");
          expect(await shell.ask(copy("vda"))).toBe("failed");
          expect(await blocks("vda")).toBe("A0CD");
          expect(await shell.ask(copy("vdb"))).toBe("");
          expect(await blocks("vdb")).toBe("A0CD"); // what the host lost without a word
          const stopping = shell.ask(copy("vdc"));
          while (!(await monitor(directory, "status")).startsWith("paused")) await setTimeout(50);
          expect(await monitor(directory, "status")).toMatch(
            new RegExp(`^paused: stop: faulty disk: write at 65536: ${error}, `),
          );
          expect(await monitor(directory, "resume")).toBe("running");
          expect(await stopping).toBe("");
          expect(await blocks("vdc")).toBe("ABCD");
        },
        { kernel: "cloud", says: /^northbridge: paused: stop: .*\n$/ },
      );
    },
  );

  it("gets larger and smaller under the guest's eyes", async () => {
    await withDisk({ mib: 64 }, async ({ shell, monitor, path }) => {
      expect(await shell.ask("cat /sys/block/vda/size")).toBe(String((64 * MIB) / 512));
      expect(await monitor.ask("device disk resize 96M")).toBe(String(96 * MIB) + " bytes");
      await shell.ask(`while [ $(cat /sys/block/vda/size) != ${(96 * MIB) / 512} ]; do sleep 0.1; done`);
      await shell.ask("dd if=/dev/zero of=/dev/vda bs=1M seek=95 count=1 conv=fsync");
      expect((await stat(path("disk.img"))).size).toBe(96 * MIB);
      expect(await monitor.ask("device disk resize 100")).toMatch(/^error: expected a size/);
    });
  });

  it("has the queues, the name and the geometry that the config says", async () => {
    const topology = { blockSize: 4096, physicalBlockSize: 16_384, optIoSize: 65_536 };
    const options = { queues: 2, serial: "NB-7", topology };
    await withDisk({ options, vcpus: 2 }, async ({ shell }) => {
      const read = (name: string): Promise<string> => shell.ask(`cat /sys/block/vda/${name}`);
      expect(await shell.ask("ls /sys/block/vda/mq | tr '\\n' ' '")).toBe("0 1");
      expect(await read("serial")).toBe("NB-7");
      expect(await read("queue/logical_block_size")).toBe("4096");
      expect(await read("queue/physical_block_size")).toBe("16384");
      expect(await read("queue/optimal_io_size")).toBe("65536");
      expect(await read("queue/write_cache")).toBe("write back");
      await shell.ask(
        "for i in 1 2 3 4; do dd if=/dev/zero of=/dev/vda bs=1M count=4 seek=$((i * 8)) & done; wait; sync",
      );
    });
  });

  it("keeps to its rate in guest time", async () => {
    const options = { limits: { bytesPerSecond: 4 * MIB, burstMs: 100 } };
    await withDisk({ options }, async ({ shell }) => {
      const [from = NaN, to = NaN] = (
        await shell.ask(
          "read a b < /proc/uptime; dd if=/dev/vda of=/dev/null bs=64k count=128 2>/dev/null; read c d < /proc/uptime; echo $a $c",
        )
      )
        .split(" ")
        .map(Number);
      expect(to - from).toBeGreaterThan(1.7); // 8 MiB at 4 MiB/s, less the burst
    });
  });

  it("is written on by a machine that was saved in the middle of it", async () => {
    if ("missing" in guest) throw new Error(guest.missing);
    await using directory = await scratch();
    const path = (name: string): string => join(directory.path, name);
    await writeFile(path("disk.img"), "");
    await truncate(path("disk.img"), 128 * MIB);
    const files = await initrdWith(guest.files, [pattern], path("initrd.img"));
    const devices = [
      { plugin: "virtioBlk", id: "disk", disk: { kind: "file", path: "disk.img" }, queues: 2 },
    ];
    const file = await machineFile(directory.path, linuxConfig({ ...files, devices, vcpus: 2 }));
    {
      await using shell = await GuestShell.boot([file, "--timeout", "900", "--monitor", path("monitor")]);
      await using monitor = await MonitorClient.connect(path("monitor"));
      await shell.ask(
        `(${WRITE_ALL}) 2>/dev/null | dd of=/dev/vda bs=64k iflag=fullblock conv=fsync 2>/tmp/dd & true`,
      );
      await monitor.until("stats", /"writes":[1-9]\d/);
      expect(await monitor.ask(`save ${path("saved")}`)).toContain("saved to");
      expect(await monitor.ask("quit")).toBe("ending");
      await shell.process.ended;
    }
    await using shell = GuestShell.restored([file, "--restore", path("saved"), "--timeout", "900"]);
    await shell.ask("wait; sync; cat /tmp/dd");
    const written = (await readFile(path("disk.img"))).subarray(0, COPIES * MIB + 2 * COPIES + (COPIES - 10));
    expect(createHash("sha256").update(written).digest("hex")).toBe(writtenDigest());
    expect(await shell.end()).toMatchObject({ code: 0 });
  });
});
