import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { expect, it } from "vitest";
import { initrdWith, program, stockGuest } from "./harness/find-guest.ts";
import { GuestProcess } from "./harness/guest-process.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { buildVsockProgram } from "./harness/host-answer.ts";
import { scratch, TUNED } from "./harness/machine-file.ts";
import { readUntil } from "./harness/with-devices.ts";

const QEMU = "qemu-system-x86_64";
const noQemu = spawnSync(QEMU, ["--version"]).status === 0 ? undefined : `no ${QEMU}`;

/** Serves a device until the returned process is ended. */
async function serve(name: string, socket: string, set: readonly string[]): Promise<GuestProcess> {
  const options = set.flatMap((option) => ["--set", option]);
  const process = new GuestProcess(["vhost-user", name, "--socket", socket, ...options], { stdin: "ignore" });
  await process.waitFor(/listening at/);
  return process;
}

/** Boots a stock guest in QEMU with one device of ours. */
async function underQemu(
  device: {
    readonly name: string;
    readonly set: (directory: string) => readonly string[];
    /** What gives it the device at the character device `device`. */
    readonly qemu: readonly string[];
  },
  prepare: (directory: string) => Promise<void>,
  use: (shell: GuestShell, directory: string) => Promise<void>,
): Promise<void> {
  const guest = await stockGuest("full");
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  await prepare(directory.path);
  const vsock = await buildVsockProgram(directory.path);
  const extra = vsock === undefined ? [] : await program(vsock, "/opt/vsock");
  const files = await initrdWith(guest.files, extra, join(directory.path, "initrd.img"));
  const socket = join(directory.path, "device.sock");
  await using backend = await serve(device.name, socket, device.set(directory.path));
  const memory = "memory-backend-memfd,id=memory,size=256M,share=on";
  const args = [
    ...["-M", "pc", "-accel", "tcg", "-m", "256", "-object", memory, "-machine", "memory-backend=memory"],
    ...["-nographic", "-no-reboot", "-chardev", `socket,id=device,path=${socket}`],
    ...device.qemu,
    ...["-kernel", files.kernel, "-initrd", files.initrd, "-append", TUNED],
  ];
  await using shell = await GuestShell.over(new GuestProcess(args, { program: QEMU }));
  await use(shell, directory.path);
  expect(await shell.run("dmesg | grep -iE 'I/O error|call trace|blocked for'")).toMatchObject({ text: "" });
  expect(await shell.end()).toMatchObject({ code: 0 });
  backend.kill("SIGINT");
  expect(await backend.ended).toMatchObject({ code: 130 });
}

const MAC = "52:54:00:00:00:07";
const END = ".".charCodeAt(0);
const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
const text = Array.from({ length: 100_000 }, (_, i) => `${i + 1}\n`).join("");

it.skipIf(noQemu !== undefined)("vhost-user-scsi: a disk, by QEMU's HBA", async () => {
  await underQemu(
    {
      name: "scsi",
      set: (directory) => [
        `targets=[{"disk":{"kind":"file","path":"${join(directory, "disk.img")}"},"serial":"NB-1"}]`,
      ],
      qemu: ["-device", "vhost-user-scsi-pci,chardev=device,num_queues=1"],
    },
    (directory) => writeFile(join(directory, "disk.img"), new Uint8Array(8 << 20)),
    async (shell, directory) => {
      await shell.ask("modprobe -a sd_mod; while [ ! -b /dev/sda ]; do usleep 50000; done");
      expect(await shell.ask("cat /sys/block/sda/size /sys/block/sda/device/vendor")).toMatch(
        /^16384\nNBRIDGE/,
      );
      await shell.ask("seq 100000 > /tmp/a && dd if=/tmp/a of=/dev/sda bs=64k seek=3 conv=fsync 2>/dev/null");
      const image = await readFile(join(directory, "disk.img"));
      expect(sha256(image.subarray(3 << 16, (3 << 16) + text.length))).toBe(sha256(text));
      await shell.ask("echo 3 > /proc/sys/vm/drop_caches");
      expect(await shell.ask("sha256sum < /dev/sda")).toContain(sha256(image));
    },
  );
});

it.skipIf(noQemu !== undefined)("vhost-user-fs: a directory, mounted", async () => {
  await underQemu(
    {
      name: "fs",
      set: (directory) => [
        "tag=work",
        "directory.kind=directory",
        `directory.path=${join(directory, "shared")}`,
      ],
      qemu: ["-device", "vhost-user-fs-pci,chardev=device,tag=work"],
    },
    async (directory) => {
      await mkdir(join(directory, "shared"));
      await writeFile(join(directory, "shared", "in"), text);
    },
    async (shell, directory) => {
      await shell.ask("mkdir -p /mnt && mount -t virtiofs work /mnt");
      expect(await shell.ask("sha256sum < /mnt/in")).toContain(sha256(text));
      await shell.ask("mkdir /mnt/d && cat /mnt/in /mnt/in > /mnt/d/out && mv /mnt/d/out /mnt/d/moved");
      await shell.ask(
        "for i in $(seq 100); do echo $i > /mnt/d/$i; done; ln -s moved /mnt/d/link; umount /mnt",
      );
      expect(sha256(await readFile(join(directory, "shared/d/link")))).toBe(sha256(text + text));
      expect(await readFile(join(directory, "shared/d/100"), "utf8")).toBe("100\n");
    },
  );
});

it.skipIf(noQemu !== undefined)("vhost-user-vsock: streams both ways", async () => {
  await underQemu(
    {
      name: "vsock",
      set: (directory) => ["cid=42", "to.kind=unix", `to.path=${join(directory, "v")}`],
      qemu: ["-device", "vhost-user-vsock-pci,chardev=device"],
    },
    () => Promise.resolve(),
    async (shell, directory) => {
      expect(await shell.ask("ls /opt/vsock")).toBe("/opt/vsock");
      const server = createServer({ allowHalfOpen: true }).listen(join(directory, "v_52"));
      server.on("connection", (socket) => {
        const hash = createHash("sha256");
        socket.on("data", (bytes) => hash.update(bytes));
        socket.on("end", () => socket.end(hash.digest("hex")));
      });
      expect(await shell.ask("seq 100000 | /opt/vsock connect 2 52")).toBe(sha256(text));
      server.close();
      await shell.ask("(/opt/vsock listen 80 < /dev/null | sha256sum > /tmp/sum) & sleep 0.5");
      const client = connect({ path: join(directory, "v"), allowHalfOpen: true });
      client.write("CONNECT 80\n");
      expect(await readUntil(client, "\n")).toMatch(/^OK \d+\n$/);
      client.end(text);
      await once(client.resume(), "close");
      expect(await shell.ask("wait; cat /tmp/sum")).toContain(sha256(text));
    },
  );
});

it.skipIf(noQemu !== undefined)("virtio-net on vhost-user: as many queue pairs as processors", async () => {
  await underQemu(
    {
      name: "net",
      set: (directory) => [
        ...["queuePairs=4", "link.kind=user", `mac=${MAC}`],
        `link.hostPorts=[{"guestPort":80,"path":"${join(directory, "sums")}"}]`,
      ],
      // With MSI-X vectors this QEMU ends by itself: see the README of packages/vhost-user.
      qemu: [
        ...["-smp", "2", "-netdev", "vhost-user,id=net,chardev=device,queues=4"],
        ...["-device", `virtio-net-pci,netdev=net,mac=${MAC},mq=on,vectors=0`],
      ],
    },
    () => Promise.resolve(),
    async (shell, directory) => {
      const server = createServer((socket) => {
        const hash = createHash("sha256");
        socket.on("data", (bytes) => {
          hash.update(bytes);
          if (bytes.at(-1) === END) socket.end(`${hash.digest("hex")}\n`);
        });
      }).listen(join(directory, "sums"));
      await once(server, "listening");
      const queues = "/sys/class/net/eth0/queues";
      expect(await shell.ask(`echo $(ls ${queues})`)).toBe("rx-0 rx-1 tx-0 tx-1");
      await shell.ask("ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up");
      // One stream of each processor, which sends by a queue of its own.
      const stream = (mask: number): string =>
        `(seq 100000; echo .) | tr -d '\\n' | taskset ${mask} nc 10.0.2.2 80 > /tmp/sum${mask}`;
      await shell.ask(`${stream(1)} & ${stream(2)}; wait`);
      const expected = sha256(`${text.replaceAll("\n", "")}.`);
      expect(await shell.ask("cat /tmp/sum1 /tmp/sum2")).toBe(`${expected}\n${expected}`);
      server.close();
    },
  );
});
