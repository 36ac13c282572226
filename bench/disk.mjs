/**
 * `pnpm bench:disk`: one Linux reads and writes one disk image through virtio-blk, under Northbridge's software CPU and
 * under QEMU's TCG, alternately. Times are the guest's; ratios of the medians are reported, and of our device the exits,
 * notifications and interrupts a request; nothing is judged.
 *
 * Options: `--kernel FILE --initrd FILE` (default: the guest of examples/linux-serial), `--runs N` (3), `--mib N` (256,
 * of the image), `--json FILE`. Runs the command from its sources. Needs a C compiler.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import {
  accessesOf,
  benchInitrd,
  contestantsOf,
  guestOptions,
  MOST_MS,
  northbridgeCommand,
  tcgCommand,
} from "./linux-under.mjs";

const INIT = `#!/bin/busybox sh
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
modprobe virtio_pci; modprobe virtio_blk
/disk-io /dev/vda
poweroff -f
`;

const { values } = parseArgs({
  options: {
    ...guestOptions,
    runs: { type: "string", default: "3" },
    mib: { type: "string", default: "256" },
    json: { type: "string" },
  },
});
const run = promisify(execFile);
const directory = await mkdtemp(join(tmpdir(), "northbridge-bench-"));
const image = join(directory, "disk.img");
try {
  await compare();
} finally {
  await rm(directory, { recursive: true });
}

async function compare() {
  const initrd = await prepare();
  const { kernel } = values;
  const disk = { plugin: "virtioBlk", disk: { kind: "file", path: image } };
  const drive = [
    "-drive",
    `file=${image},if=none,id=disk,format=raw`,
    "-device",
    "virtio-blk-pci,drive=disk",
  ];
  const contestants = contestantsOf(
    { command: () => northbridgeCommand({ directory, kernel, initrd, device: disk }), results: [] },
    (qemu) => ({ command: () => tcgCommand(qemu, { kernel, initrd, device: drive }), results: [] }),
  );
  for (let i = 0; i < Number(values.runs); i++) {
    for (const { name, command, results } of contestants) {
      const [program, ...args] = await command();
      const result = resultsOf((await run(program, args, { timeout: MOST_MS })).stdout);
      results.push(result);
      for (const [test, { mibs, requests }] of result)
        console.log(
          `run ${i + 1} ${name.padEnd(12)} ${test.padEnd(20)} ${mibs} MiB/s, ${requests} requests/s`,
        );
    }
  }
  const accesses = await accessesOf(directory);
  const { requests: all, exits, notifications, interrupts } = accesses;
  console.log(
    `\nnorthbridge: ${exits} exits (accesses of the device's registers) a request, ${notifications} notifications and ` +
      `${interrupts} interrupts, of ${all} requests`,
  );
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
    await writeFile(values.json, `${JSON.stringify({ version: 1, ...report, accesses }, undefined, 2)}\n`);
  }
}

/** The program, an image whose storage is all there, and an initramfs that runs the program: its path. */
async function prepare() {
  const program = join(directory, "disk-io");
  execFileSync("gcc", ["-O2", "-static", "-o", program, join(import.meta.dirname, "disk-io.c")]);
  await writeFile(image, new Uint8Array(Number(values.mib) * 2 ** 20).fill(0x5a));
  await truncate(image, Number(values.mib) * 2 ** 20);
  const bytes = await readFile(program);
  return benchInitrd(directory, values.initrd, INIT, [
    { kind: "file", path: "/disk-io", mode: 0o755, bytes },
  ]);
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
