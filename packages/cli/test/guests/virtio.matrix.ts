import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { program } from "./harness/find-guest.ts";
import { buildVsockProgram } from "./harness/host-answer.ts";
import { isoImage } from "./harness/iso9660.ts";
import { monitor, readUntil, withDevices } from "./harness/with-devices.ts";

describe("virtio devices under stock drivers", () => {
  it("console: named ports both ways, and a console beside them", async () => {
    const socket = (path: string): object => ({ kind: "socket", path });
    await withDevices(
      (directory) => [
        {
          plugin: "virtioConsole",
          to: socket(join(directory, "hvc")),
          ports: [
            { name: "org.northbridge.echo", to: socket(join(directory, "echo")) },
            { name: "log", to: socket(join(directory, "log")) },
          ],
          size: { columns: 132, rows: 43 },
        },
      ],
      async (shell, directory) => {
        expect(await shell.ask("echo $(ls /dev/virtio-ports)")).toBe("log org.northbridge.echo");
        const echo = connect(join(directory, "echo"));
        await once(echo, "connect");
        await shell.ask("sh -c 'cat <> /dev/virtio-ports/org.northbridge.echo >&0' & sleep 0");
        const text = `${"northbridge ".repeat(5000)}end`;
        echo.write(text);
        expect(await readUntil(echo, "end")).toBe(text);

        // Without a peer a writer waits; what it writes is there when one comes.
        await shell.ask("(seq 1000 > /dev/virtio-ports/log) & sleep 1");
        const log = connect(join(directory, "log"));
        expect((await readUntil(log, "1000\n")).startsWith("1\n2\n3\n")).toBe(true);

        const console = connect(join(directory, "hvc"));
        await once(console, "connect");
        await shell.ask("echo hello console > /dev/hvc0");
        expect(await readUntil(console, "console\r\n")).toBe("hello console\r\n");
        expect(await shell.ask("stty size < /dev/hvc0")).toBe("43 132");
        for (const each of [echo, log, console]) each.destroy();
      },
    );
  });

  it("vsock: streams both ways, refusals, halves that close apart", async () => {
    await withDevices(
      (directory) => [{ plugin: "virtioVsock", cid: 42, to: { kind: "unix", path: join(directory, "v") } }],
      async (shell, directory) => {
        const text = Array.from({ length: 200_000 }, (_, i) => `${i + 1}\n`).join("");
        const digest = createHash("sha256").update(text).digest("hex");

        // The guest connects, sends all, closes its half, and reads the answer.
        const server = createServer({ allowHalfOpen: true }).listen(join(directory, "v_52"));
        server.on("connection", (socket) => {
          const hash = createHash("sha256");
          socket.on("data", (bytes) => hash.update(bytes));
          socket.on("end", () => socket.end(hash.digest("hex")));
        });
        expect(await shell.ask("seq 200000 | /opt/vsock connect 2 52")).toBe(digest);
        server.close();
        expect(await shell.run("/opt/vsock connect 2 53 < /dev/null")).toMatchObject({
          status: 1,
          text: expect.stringContaining("Connection reset by peer"),
        });

        // The host connects, and the guest answers.
        await shell.ask("(/opt/vsock listen 80 < /dev/null | sha256sum > /tmp/sum) & sleep 0.2");
        const client = connect({ path: join(directory, "v"), allowHalfOpen: true });
        client.write("CONNECT 80\n");
        expect(await readUntil(client, "\n")).toMatch(/^OK \d+\n$/);
        client.end(text);
        await once(client.resume(), "close");
        expect(await shell.ask("wait; cat /tmp/sum")).toContain(digest);
        const refused = connect(join(directory, "v"));
        refused.write("CONNECT 81\n");
        await once(refused.resume(), "close");
        expect(refused.bytesRead).toBe(0);
      },
      {
        extra: async (directory) => {
          const path = await buildVsockProgram(directory);
          if (path === undefined) throw new Error("no gcc on this host");
          return program(path, "/opt/vsock");
        },
      },
    );
  });

  it("scsi: a disk with a file system, and a CD that comes and goes", async () => {
    const kib = 32 * 1024;
    await withDevices(
      (directory) => [
        {
          plugin: "virtioScsi",
          id: "scsi",
          targets: [
            { disk: { kind: "file", path: join(directory, "disk.img") }, serial: "NB-1" },
            { type: "cdRom", disk: { kind: "file", path: join(directory, "cd.iso") } },
          ],
        },
      ],
      async (shell, directory) => {
        await shell.ask("while [ ! -b /dev/sda -o ! -b /dev/sr0 ]; do usleep 50000; done");
        expect(await shell.ask("cat /sys/block/sda/size /sys/block/sda/device/vendor")).toMatch(
          /^65536\nNBRIDGE/,
        );
        expect(await shell.ask("cat /sys/block/sda/queue/write_cache")).toBe("write back");
        expect(await shell.ask("tr -d '\\0' < /sys/block/sda/device/vpd_pg80 | tail -c 4")).toBe("NB-1");

        await shell.ask("/opt/mke2fs -q -t ext4 /dev/sda && mkdir -p /a /cd && mount /dev/sda /a");
        const sum = await shell.ask("seq 200000 > /a/seq; sha256sum < /a/seq");
        await shell.ask("umount /a");
        const image = await readFile(join(directory, "disk.img"));
        expect(image.subarray(1080, 1082)).toEqual(Buffer.from([0x53, 0xef])); // the magic of ext4
        await shell.ask("echo 3 > /proc/sys/vm/drop_caches; mount /dev/sda /a");
        const again = await shell.ask("sha256sum < /a/seq && umount /a && sha256sum < /dev/sda");
        expect(again).toContain(sum);
        expect(again).toContain(
          createHash("sha256")
            .update(await readFile(join(directory, "disk.img")))
            .digest("hex"),
        );
        expect(sum).toContain(
          createHash("sha256")
            .update(Array.from({ length: 200_000 }, (_, i) => `${i + 1}\n`).join(""))
            .digest("hex"),
        );

        await shell.ask("blkdiscard -o 16777216 -l 1048576 /dev/sda");
        const trimmed = await readFile(join(directory, "disk.img"));
        expect(trimmed.subarray(16 << 20, 17 << 20).every((byte) => byte === 0)).toBe(true);

        await shell.ask("mount -t iso9660 -o ro /dev/sr0 /cd");
        expect(await shell.ask("cat /cd/hello.txt")).toBe("Hello from a CD");
        expect(await monitor(directory, "device scsi eject 1")).toMatch(/has locked the drive/);
        await shell.ask("umount /cd");
        expect(await monitor(directory, "device scsi eject 1")).toBe("ejected");
        expect((await shell.run("dd if=/dev/sr0 of=/dev/null count=1 2>&1")).text).toContain(
          "No medium found",
        );
        await writeFile(join(directory, "other.iso"), isoImage("OTHER.TXT;1", Buffer.from("Another one")));
        expect(await monitor(directory, `device scsi insert 1 ${join(directory, "other.iso")}`)).toBe(
          "inserted",
        );
        expect(
          await shell.ask("mount -t iso9660 -o ro /dev/sr0 /cd && cat /cd/other.txt && umount /cd"),
        ).toBe("Another one");
        expect(
          (await shell.run("dmesg | grep -iE 'sense key|i/o error' | grep -v 'Medium not present'")).text,
        ).toBe("");
      },
      {
        kernel: "cloud", // which has ext4
        extra: () => program("/sbin/mke2fs", "/opt/mke2fs"),
        files: async (directory) => {
          await writeFile(join(directory, "disk.img"), new Uint8Array(kib * 1024));
          await writeFile(join(directory, "cd.iso"), isoImage("HELLO.TXT;1", Buffer.from("Hello from a CD")));
        },
      },
    );
  });

  it("transitional: a driver that knows nothing of virtio 1.0, and one that does", async () => {
    for (const isLegacy of [true, false]) {
      await withDevices(
        (directory) => [
          {
            plugin: "virtioBlk",
            disk: { kind: "file", path: join(directory, "disk.img") },
            transitional: true,
          },
          { plugin: "virtioNet", link: { kind: "loopback" }, transitional: true },
          { plugin: "virtioRng", transitional: true },
        ],
        async (shell, directory) => {
          const bits = await shell.ask("for d in /sys/bus/virtio/devices/*; do cut -c33 $d/features; done");
          expect(bits).toBe(isLegacy ? "0\n0\n0" : "1\n1\n1"); // VERSION_1
          const sum = await shell.ask(
            "seq 100000 > /tmp/a; dd if=/tmp/a of=/dev/vda bs=4096 conv=fsync 2>/dev/null; sha256sum < /tmp/a",
          );
          const image = await readFile(join(directory, "disk.img"));
          expect(sum).toContain(createHash("sha256").update(image.subarray(0, 588_895)).digest("hex"));
          await shell.ask("echo 3 > /proc/sys/vm/drop_caches");
          expect(await shell.ask("head -c 588895 /dev/vda | sha256sum")).toBe(sum);
          expect(await shell.ask("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c")).toBe("64");
          await shell.ask("ip link set eth0 up && ip addr add 10.0.0.1/24 dev eth0");
          await shell.run("ping -c 2 -W 1 10.0.0.2");
          // The loopback gives frames back: at least those for everybody are received.
          for (const way of ["rx", "tx"]) {
            expect(
              Number(await shell.ask(`cat /sys/class/net/eth0/statistics/${way}_packets`)),
            ).toBeGreaterThan(0);
          }
        },
        {
          kernel: "cloud",
          cmdline: isLegacy ? "virtio_pci.force_legacy=1" : "",
          files: (directory) => writeFile(join(directory, "disk.img"), new Uint8Array(4 << 20)),
        },
      );
    }
  });

  it("platform: a driver behind DMA mappings and the barriers of devices", async () => {
    await withDevices(
      () => [{ plugin: "virtioRng", platform: true, inOrder: true }],
      async (shell) => {
        const features = await shell.ask("cat /sys/bus/virtio/devices/virtio0/features");
        expect([features[33], features[36]]).toEqual(["1", "1"]);
        expect(await shell.ask("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c")).toBe("64");
      },
      { kernel: "cloud" },
    );
  });

  it("input: what the monitor types and moves arrives as events", async () => {
    await withDevices(
      () => [
        { plugin: "virtioInput", id: "keyboard", kind: "keyboard" },
        { plugin: "virtioInput", id: "tablet", kind: "tablet" },
      ],
      async (shell, directory) => {
        const devices = await shell.ask("cat /proc/bus/input/devices");
        expect(devices).toContain('N: Name="Northbridge virtio keyboard"');
        expect(devices).toContain("B: LED=7");
        const eventOf = (name: string): string =>
          new RegExp(`Name="Northbridge virtio ${name}"[^]*?Handlers=[^\\n]*(event\\d+)`).exec(
            devices,
          )?.[1] ?? "none";
        /** Type, code and value of so many events that the guest reads while the monitor acts. */
        const events = async (
          name: string,
          count: number,
          ...lines: readonly string[]
        ): Promise<string[]> => {
          const from = `/dev/input/${eventOf(name)}`;
          await shell.ask(
            `(dd if=${from} of=/tmp/events bs=24 count=${count} 2> /dev/null; touch /tmp/done) & sleep 0.2`,
          );
          for (const line of lines) expect(await monitor(directory, line)).toBe("done");
          await shell.ask("while [ ! -e /tmp/done ]; do usleep 20000; done; rm /tmp/done");
          const bytes = Buffer.from(await shell.ask("xxd -p /tmp/events | tr -d '\\n'"), "hex");
          return Array.from({ length: bytes.length / 24 }, (_, i) => {
            const at = 24 * i + 16; // behind the time
            return `${bytes.readUInt16LE(at)} ${bytes.readUInt16LE(at + 2)} ${bytes.readInt32LE(at + 4)}`;
          });
        };
        expect(await events("keyboard", 8, "device keyboard type a?")).toEqual([
          "1 30 1",
          "0 0 0",
          "1 30 0",
          "0 0 0",
          "1 42 1",
          "1 53 1",
          "0 0 0",
          "1 53 0",
        ]);
        expect(await events("tablet", 5, "device tablet at 1000 20000", "device tablet press left")).toEqual([
          "3 0 1000",
          "3 1 20000",
          "0 0 0",
          "1 272 1",
          "0 0 0",
        ]);
        const capsLockOn = `${"\\0".repeat(16)}\\21\\0\\1\\0\\1\\0\\0\\0`; // an EV_LED event
        await shell.ask(`printf '${capsLockOn}' > /dev/input/${eventOf("keyboard")}`);
        expect(await monitor(directory, "device keyboard leds")).toBe("capsLock");
      },
    );
  });
});
