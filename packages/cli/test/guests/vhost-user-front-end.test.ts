import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { exampleGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const DAEMON = "qemu-storage-daemon";
const MIB = 1 << 20;
const isHere = process.env["NORTHBRIDGE_QEMU"] === "1" && spawnSync(DAEMON, ["--version"]).status === 0;
const guest = await exampleGuest();

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

it("uses a disk of QEMU's storage daemon, which is killed while the guest writes", {
  timeout: 300_000,
}, async (context) => {
  if ("missing" in guest) return context.skip(guest.missing);
  if (!isHere) return context.skip(`NORTHBRIDGE_QEMU=1, and ${DAEMON}`);
  await using directory = await scratch();
  const [image, socket] = [join(directory.path, "disk.img"), join(directory.path, "blk.sock")];
  const before = randomBytes(8 * MIB);
  await writeFile(image, before);
  const serve = async () => {
    const address = `addr.type=unix,addr.path=${socket}`;
    const daemon = spawn(DAEMON, [
      ...["--blockdev", `driver=file,filename=${image},node-name=file`],
      ...["--blockdev", "driver=raw,file=file,node-name=disk"],
      ...["--export", `type=vhost-user-blk,id=export,node-name=disk,writable=on,${address}`],
    ]);
    while (!existsSync(socket) && daemon.exitCode === null) await new Promise((done) => setTimeout(done, 10));
    return {
      kill: async (): Promise<void> => {
        daemon.kill("SIGKILL");
        await new Promise((done) => daemon.once("exit", done));
        spawnSync("rm", ["-f", socket]);
      },
    };
  };
  let daemon = await serve();
  try {
    const disk = { plugin: "vhostUserBlk", path: socket };
    const machine = await machineFile(directory.path, { ...linuxConfig(guest.files), devices: [disk] });
    await using shell = await GuestShell.boot([machine, "--backend", "soft", "--timeout", "280"]);
    expect(await shell.ask("sha256sum < /dev/vda")).toContain(sha256(before));
    await shell.ask("seq 1 400000 | head -c 2097152 > /tmp/data");
    await shell.ask(
      "(dd if=/tmp/data of=/dev/vda bs=64k oflag=direct 2>/dev/null; dd if=/tmp/data of=/dev/vda bs=64k seek=32 oflag=direct conv=fsync 2>/dev/null; echo $? > /tmp/done) &",
    );
    await daemon.kill();
    daemon = await serve();
    await shell.ask("while ! [ -s /tmp/done ]; do sleep 0.1; done");
    expect(await shell.ask("cat /tmp/done")).toBe("0");
    const sum = (await shell.ask("sha256sum < /tmp/data")).split(" ")[0];
    const after = await readFile(image);
    for (const at of [0, 2 * MIB]) expect(sha256(after.subarray(at, at + 2 * MIB))).toBe(sum);
    expect(await shell.ask("sha256sum < /dev/vda")).toContain(sha256(after));
    expect(await shell.end()).toMatchObject({ code: 0 });
  } finally {
    await daemon.kill();
  }
});
