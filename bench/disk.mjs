/**
 * `pnpm bench:disk`: one Linux reads and writes one disk image through virtio-blk, under Northbridge's software CPU and
 * under QEMU's TCG, alternately. Times are the guest's; ratios of the medians are reported, nothing is judged.
 *
 * Options: `--kernel FILE --initrd FILE` (default: the guest of examples/linux-serial), `--runs N` (3), `--mib N` (256,
 * of the image), `--json FILE`. Runs the command from its sources. Needs a C compiler.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { appendToInitramfs } from "../packages/cli/src/guest/index.ts";
import { node, root } from "../scripts/workspace.mjs";
import { findProgram } from "./watch-boot.mjs";

const CMDLINE = "console=ttyS0 cryptomgr.notests quiet";
const MOST_MS = 600_000;
const INIT = `#!/bin/busybox sh
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
modprobe virtio_pci; modprobe virtio_blk
/disk-io /dev/vda
poweroff -f
`;

const guest = join(root, "examples", "linux-serial", "guest");
const { values } = parseArgs({
  options: {
    kernel: { type: "string", default: join(guest, "vmlinuz") },
    initrd: { type: "string", default: join(guest, "initrd.img") },
    runs: { type: "string", default: "3" },
    mib: { type: "string", default: "256" },
    json: { type: "string" },
  },
});
const run = promisify(execFile);
const directory = await mkdtemp(join(tmpdir(), "northbridge-bench-"));
const image = join(directory, "disk.img");
const initrd = join(directory, "initrd.img");
try {
  await compare();
} finally {
  await rm(directory, { recursive: true });
}

async function compare() {
  await prepare();
  const contestants = [{ name: "northbridge", start: northbridge, results: [] }];
  const qemu = findProgram("qemu-system-x86_64");
  if (qemu === undefined) console.log("qemu-system-x86_64 is not installed: nothing to compare with\n");
  else contestants.push({ name: "qemu tcg", start: () => tcg(qemu), results: [] });
  for (let i = 0; i < Number(values.runs); i++) {
    for (const { name, start, results } of contestants) {
      const result = resultsOf((await start()).stdout);
      results.push(result);
      for (const [test, { mibs, requests }] of result)
        console.log(
          `run ${i + 1} ${name.padEnd(12)} ${test.padEnd(20)} ${mibs} MiB/s, ${requests} requests/s`,
        );
    }
  }
  const [ours, theirs] = contestants.map(({ results }) => mediansOf(results));
  console.log(`\nmedians of ${values.runs}, requests a second`);
  for (const [test, requests] of ours) {
    const other = theirs?.get(test);
    const ratio = other === undefined ? "" : `, TCG ${other}: ${(requests / other).toFixed(2)} times TCG's`;
    console.log(`${test.padEnd(20)} ${requests}${ratio}`);
  }
  if (values.json !== undefined) {
    const report = Object.fromEntries(
      contestants.map(({ name, results }) => [name, results.map((result) => Object.fromEntries(result))]),
    );
    await writeFile(values.json, `${JSON.stringify({ version: 1, ...report }, undefined, 2)}\n`);
  }
}

/** The program, an initramfs that runs it, and an image whose storage is all there. */
async function prepare() {
  const program = join(directory, "disk-io");
  execFileSync("gcc", ["-O2", "-static", "-o", program, join(import.meta.dirname, "disk-io.c")]);
  const file = (path, bytes) => ({ kind: "file", path, mode: 0o755, bytes });
  const extra = [file("/disk-io", await readFile(program)), file("/init", new TextEncoder().encode(INIT))];
  await writeFile(initrd, appendToInitramfs(await readFile(values.initrd), extra));
  await writeFile(image, new Uint8Array(Number(values.mib) * 2 ** 20).fill(0x5a));
  await truncate(image, Number(values.mib) * 2 ** 20);
}

async function northbridge() {
  const config = join(directory, "machine.json");
  const machine = {
    machine: "pc-1",
    memory: { mib: 256 },
    boot: { kernel: values.kernel, initrd, cmdline: CMDLINE },
    devices: [{ plugin: "virtioBlk", disk: { kind: "file", path: image } }],
  };
  await writeFile(config, JSON.stringify(machine));
  const main = join(root, "packages", "cli", "src", "main.ts");
  return run(node, ["--conditions=northbridge-source", main, "run", config, "--backend", "soft"], {
    timeout: MOST_MS,
  });
}

function tcg(qemu) {
  return run(
    qemu,
    [
      ...["-M", "pc", "-accel", "tcg", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none"],
      ...["-serial", "stdio", "-no-reboot", "-kernel", values.kernel, "-initrd", initrd, "-append", CMDLINE],
      ...["-drive", `file=${image},if=none,id=disk,format=raw`, "-device", "virtio-blk-pci,drive=disk"],
    ],
    { timeout: MOST_MS },
  );
}

/** Of each test, the last round. */
function resultsOf(text) {
  const lines = text.matchAll(/^RESULT (\S+) (\S+) (\S+?)\r?$/gm);
  return new Map(
    [...lines].map(([, test, mibs, requests]) => [test, { mibs: Number(mibs), requests: Number(requests) }]),
  );
}

function mediansOf(results) {
  const tests = [...results[0].keys()];
  return new Map(
    tests.map((test) => {
      const sorted = results.map((result) => result.get(test).requests).sort((a, b) => a - b);
      return [test, sorted[sorted.length >> 1]];
    }),
  );
}
