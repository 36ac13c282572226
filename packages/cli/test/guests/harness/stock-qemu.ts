import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, type TestContext } from "vitest";
import { exampleGuest } from "./find-guest.ts";
import { GuestProcess } from "./guest-process.ts";
import { GuestShell } from "./guest-shell.ts";
import { scratch, TUNED } from "./machine-file.ts";

const QEMU = "qemu-system-x86_64";
const isHere = (): boolean => spawnSync(QEMU, ["--version"]).status === 0;

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const MIB = 1 << 20;
const DISK_MIB = 8;
const MEMORY =
  "-M pc -accel tcg -m 256 -object memory-backend-memfd,id=memory,size=256M,share=on -machine memory-backend=memory";

/** Serves a device until the returned process is ended. */
async function serve(...args: readonly string[]): Promise<GuestProcess> {
  const process = new GuestProcess(["vhost-user", ...args], { stdin: "ignore" });
  await process.waitFor(/listening at/);
  return process;
}
/** Place of the feature in what Linux says of a device (virtio 1.3 §6). */
const RING_PACKED = 34;

/**
 * A stock guest in a stock QEMU uses disk, network and entropy of ours; while it writes, the disk's back end is killed
 * and started again.
 */
export async function stockQemu(isPacked: boolean, context: TestContext): Promise<void> {
  const flags = isPacked ? ["--packed"] : [];
  const ring = isPacked ? ",packed=on" : "";
  const guest = await exampleGuest();
  if ("missing" in guest) return context.skip(guest.missing);
  if (!isHere()) return context.skip(`no ${QEMU}`);
  await using directory = await scratch();
  const at = (name: string): string => join(directory.path, name);
  const before = randomBytes(DISK_MIB * MIB);
  await writeFile(at("disk.img"), before);
  const disk = [
    ...["blk", "--socket", at("blk.sock"), "--set", "disk.kind=file", "--set", `disk.path=${at("disk.img")}`],
    ...["--set", "queues=2", "--set", "serial=NB-DISK"],
    ...flags,
  ];
  let blk = await serve(...disk);
  await using rng = await serve("rng", "--socket", at("rng.sock"));
  await using net = await serve("net", "--socket", at("net.sock"), "--set", "link.kind=loopback", ...flags);
  try {
    const socket = (id: string, more = ""): string =>
      `-chardev socket,id=${id},path=${at(`${id}.sock`)}${more}`;
    const devices = [
      `${socket("blk", ",reconnect=1")} -device vhost-user-blk-pci,chardev=blk,num-queues=2${ring}`,
      `${socket("rng")} -device vhost-user-rng-pci,chardev=rng`,
      `${socket("net")} -netdev vhost-user,id=link,chardev=net -device virtio-net-pci,netdev=link,vectors=0${ring}`,
    ].join(" ");
    const boot = ["-kernel", guest.files.kernel, "-initrd", guest.files.initrd, "-append", TUNED];
    const args = `${MEMORY} -nographic -no-reboot ${devices}`.split(" ");
    await using shell = await GuestShell.over(new GuestProcess([...args, ...boot], { program: QEMU }));

    for (const device of ["block/vda", "class/net/eth0"]) {
      const features = await shell.ask(`cat /sys/${device}/device/features`);
      expect(features[RING_PACKED], device).toBe(isPacked ? "1" : "0");
    }
    expect(await shell.ask("cat /sys/block/vda/serial")).toBe("NB-DISK");
    expect(await shell.ask("ls /sys/block/vda/mq | wc -l")).toBe("1"); // one processor: one queue of the two
    expect(await shell.ask("sha256sum < /dev/vda")).toContain(sha256(before));
    expect(await shell.ask("cat /sys/class/misc/hw_random/rng_current")).toMatch(/^virtio_rng/);
    expect(await shell.ask("dd if=/dev/hwrng bs=1k count=16 2>/dev/null | wc -c")).toBe("16384");
    // The link is a loop: what the guest sends it receives.
    const statistics = "/sys/class/net/eth0/statistics";
    await shell.ask("ip link set eth0 up; ip addr add 10.0.0.1/24 dev eth0");
    const ping = "ping -c 1 -W 1 10.0.0.2 > /dev/null";
    await shell.ask(
      `for i in $(seq 30); do [ $(cat ${statistics}/rx_packets) = 0 ] || break; ${ping}; done; true`,
    );
    expect(Number(await shell.ask(`cat ${statistics}/rx_packets`))).toBeGreaterThan(0);
    expect(Number(await shell.ask(`cat ${statistics}/tx_packets`))).toBeGreaterThan(0);

    // While the guest writes, the disk's back end is killed, and started again.
    await shell.ask("seq 1 400000 | head -c 2097152 > /tmp/data; sha256sum < /tmp/data > /tmp/sum");
    await shell.ask(
      "(for i in 0 1 2 3; do dd if=/tmp/data of=/dev/vda bs=64k seek=$((i * 32)) oflag=direct 2>/dev/null; done; sync; echo $? > /tmp/done) &",
    );
    blk.kill("SIGKILL");
    await blk.ended;
    blk = await serve(...disk);
    await shell.ask("while ! [ -s /tmp/done ]; do sleep 0.1; done");
    expect(await shell.ask("cat /tmp/done")).toBe("0");
    const sum = (await shell.ask("cat /tmp/sum")).split(" ")[0];
    const after = await readFile(at("disk.img"));
    for (let i = 0; i < 4; i++) expect(sha256(after.subarray(i * 2 * MIB, (i + 1) * 2 * MIB))).toBe(sum);
    expect(await shell.run("dmesg | grep -iE 'I/O error|call trace|blocked for'")).toMatchObject({
      text: "",
    });
    expect(await shell.end()).toMatchObject({ code: 0 });
  } finally {
    blk.kill("SIGINT");
  }
  expect(await blk.ended).toMatchObject({ code: 130 });
  rng.kill("SIGTERM");
  expect(await rng.ended).toMatchObject({ code: 143, err: expect.stringContaining("gone: closed") });
  net.kill("SIGINT");
  await net.ended;
}
