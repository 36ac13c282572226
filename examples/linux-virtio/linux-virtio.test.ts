import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";

const here = import.meta.dirname;
const cli = join(here, "node_modules", "@northbridge", "cli");
/** The two examples boot the same guest. */
const guests = [join(here, "guest"), join(here, "..", "linux-serial", "guest")];
const guest = guests.find((directory) => existsSync(join(directory, "vmlinuz")));

interface Manifest {
  readonly bin: { readonly northbridge: string };
}

let work: string;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), "linux-virtio-"));
});
afterEach(() => {
  rmSync(work, { recursive: true });
});

/** Runs `machine.yaml` of `directory`, types the lines one by one as the shell prompts, and resolves at its end. */
async function boot(
  directory: string,
  lines: readonly string[],
): Promise<{ readonly code: number | null; readonly console: string }> {
  const { bin } = JSON.parse(readFileSync(join(cli, "package.json"), "utf8")) as Manifest;
  const machine = spawn(join(here, "..", "..", "node_modules", ".bin", "node"), [
    join(cli, bin.northbridge),
    "run",
    join(directory, "machine.yaml"),
    "--timeout",
    "280",
  ]);
  let console = "";
  let seen = 0;
  const left = [...lines];
  const see = (bytes: Buffer): void => {
    console += bytes.toString("latin1");
    // The shell asks the terminal where its cursor is, right behind the prompt.
    const prompt = /\n~ # (\x1b\[6n)?$/.exec(console.slice(seen));
    if (prompt === null) return;
    seen = console.length;
    machine.stdin.write(`${left.shift() ?? "poweroff -f"}\n`);
  };
  machine.stdout.on("data", see);
  machine.stderr.on("data", see);
  const code = await new Promise<number | null>((resolve) => machine.on("close", resolve));
  return { code, console };
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

it("gives stock Linux drivers disks, randomness, a console and a network", {
  timeout: 300_000,
}, async (context) => {
  context.skip(guest === undefined, "no guest: northbridge guest linux --out examples/linux-virtio/guest");
  const image = randomBytes(4 << 20);
  writeFileSync(join(work, "disk.img"), image);
  writeFileSync(join(work, "machine.yaml"), readFileSync(join(here, "machine.yaml")));
  symlinkSync(guest ?? "", join(work, "guest"));

  const { code, console } = await boot(work, [
    "sha256sum /dev/vda; cat /sys/block/vda/serial; echo",
    "dd if=/dev/hwrng of=/x bs=512 count=8 2>/dev/null; dd if=/x of=/dev/vda bs=512 seek=100 conv=fsync 2>/dev/null",
    "sha256sum /x; rm /x",
    "dd if=/dev/vda of=/dev/vdb bs=64k count=64 conv=fsync 2>/dev/null; sha256sum /dev/vdb | cut -c 1-8",
    "mke2fs -q /dev/vdb; mkdir -p /mnt; mount -t ext2 /dev/vdb /mnt; echo kept > /mnt/file; umount /mnt",
    "mount -t ext2 /dev/vdb /mnt; cat /mnt/file; cat /sys/class/net/eth0/address",
    "echo over hvc0 > /dev/hvc0",
    "poweroff -f",
  ]);
  expect(code).toBe(0);

  expect(console).toContain(`${sha256(image)}  /dev/vda`);
  expect(console).toMatch(/^example-1\r?$/m);
  expect(console).toMatch(/^kept\r?$/m);
  expect(console).toMatch(/^52:54:00:12:34:56\r?$/m);
  expect(readFileSync(join(work, "console.log"), "latin1")).toContain("over hvc0");
  const after = readFileSync(join(work, "disk.img"));
  const written = after.subarray(100 * 512, 108 * 512);
  expect(console).toContain(`${sha256(written)}  /x`);
  expect(written.equals(image.subarray(100 * 512, 108 * 512))).toBe(false);
  written.set(image.subarray(100 * 512, 108 * 512));
  expect(after.equals(image)).toBe(true); // and nothing else
});
