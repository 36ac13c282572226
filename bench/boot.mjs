/**
 * `pnpm bench:boot`: boots one Linux on Northbridge and on QEMU's TCG, alternately, and compares what it costs until
 * user space says that it runs: processor time of the whole process, side by side. Reports; judges nothing.
 *
 * Options: `--kernel FILE --initrd FILE` (default: the guest of examples/linux-serial), `--runs N` (5), `--mib N` (256),
 * `--vcpus N` (1), `--json FILE`. Runs the built command: `pnpm build` first.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { node, root } from "../scripts/workspace.mjs";
import { findProgram, watchBoot } from "./watch-boot.mjs";
import { unpackKernel } from "./unpack-kernel.mjs";

const READY = "Northbridge guest ready";
const CMDLINE = "console=ttyS0 cryptomgr.notests";
const guest = join(root, "examples", "linux-serial", "guest");
const command = join(root, "packages", "cli", "bin", "northbridge.js");

const { values } = parseArgs({
  options: {
    kernel: { type: "string", default: join(guest, "vmlinuz") },
    initrd: { type: "string", default: join(guest, "initrd.img") },
    runs: { type: "string", default: "5" },
    mib: { type: "string", default: "256" },
    vcpus: { type: "string", default: "1" },
    json: { type: "string" },
  },
});
const { kernel, initrd, mib, vcpus } = values;
const runs = Number(values.runs);

for (const file of [kernel, initrd]) {
  if (!existsSync(file))
    fail(`${file}: expected a guest's file, found none: northbridge guest linux --out DIR`);
}
if (!existsSync(join(root, "packages", "cli", "dist", "main.js")))
  fail("the command is not built: pnpm build first");
if (!Number.isInteger(runs) || runs < 1) fail(`--runs: expected a number of runs, found ${values.runs}`);

const qemu = findProgram("qemu-system-x86_64");
const directory = await mkdtemp(join(tmpdir(), "northbridge-bench-"));
try {
  await compare();
} finally {
  await rm(directory, { recursive: true });
}

async function compare() {
  const contestants = [{ name: "northbridge", boot: bootNorthbridge, results: [] }];
  if (qemu === undefined)
    console.log("qemu-system-x86_64 is not installed: Northbridge alone, nothing to compare with\n");
  else {
    // TCG gets what Northbridge unpacks on the host too: neither guest unpacks its kernel.
    const vmlinux = join(directory, "vmlinux");
    await writeFile(vmlinux, await unpackKernel(kernel));
    contestants.push({ name: "qemu tcg", boot: () => bootQemu(vmlinux), results: [] });
  }
  // The first boots fill the page cache, and the command's cache of compiled code.
  for (const { boot } of contestants) await boot();
  for (let run = 0; run < runs; run++) {
    for (const { name, boot, results } of contestants) {
      const result = await boot();
      results.push(result);
      console.log(`run ${run + 1} ${name.padEnd(12)} ${describe(result)}`);
    }
  }

  const report = {
    version: 1,
    kernel,
    initrd,
    cmdline: CMDLINE,
    mib: Number(mib),
    vcpus: Number(vcpus),
    runs,
  };
  console.log(`\nmedians of ${runs}: ${mib} MiB, ${vcpus} vCPU, "${CMDLINE}"`);
  for (const { name, results } of contestants) {
    const medians = mediansOf(results);
    report[name] = { medians, results };
    console.log(`${name.padEnd(12)} ${describe(medians)}`);
  }
  const ours = report.northbridge.medians;
  const theirs = report["qemu tcg"]?.medians;
  if (theirs !== undefined) {
    report.cpuRatio = ours.cpuMs / theirs.cpuMs;
    console.log(`processor time: ${report.cpuRatio.toFixed(2)} times TCG's`);
  }
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(report, undefined, 2)}\n`);
}

async function bootNorthbridge() {
  const stats = join(directory, "stats.json");
  const args = [
    ...[command, "run", "--kernel", kernel, "--initrd", initrd, "--append", CMDLINE],
    ...["--set", `memory.mib=${mib}`, "--set", `vcpus=${vcpus}`, "--expect", READY, "--stats", stats],
  ];
  const watched = await watchBoot(node, args, READY);
  const { milestones } = JSON.parse(await readFile(stats, "utf8"));
  return {
    ...withoutGuest(watched),
    firstInstructionMs: milestones.firstInstruction.wallMs,
    firstInstructionCpuMs: milestones.firstInstruction.cpuMs,
    instructions: milestones[READY].instructions,
  };
}

async function bootQemu(vmlinux) {
  const args = [
    ...[
      "-M",
      "microvm,acpi=off",
      "-accel",
      "tcg",
      "-m",
      mib,
      "-smp",
      vcpus,
      "-nodefaults",
      "-no-user-config",
    ],
    ...["-display", "none", "-serial", "stdio", "-no-reboot"],
    ...["-kernel", vmlinux, "-initrd", initrd, "-append", CMDLINE],
  ];
  return withoutGuest(await watchBoot(qemu, args, READY));
}

/** The peak of resident memory, and what of it is not the guest's RAM if all of that is touched. */
function withoutGuest(watched) {
  return { ...watched, rssOverGuestMib: watched.peakRssMib - Number(mib) };
}

function mediansOf(results) {
  const median = (values) => {
    const sorted = values.toSorted((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  };
  return Object.fromEntries(
    Object.keys(results[0]).map((key) => [key, median(results.map((result) => result[key]))]),
  );
}

function describe(result) {
  const {
    cpuMs,
    wallMs,
    peakRssMib,
    rssOverGuestMib,
    firstInstructionMs,
    firstInstructionCpuMs,
    instructions,
  } = result;
  const parts = [
    `cpu ${(cpuMs / 1000).toFixed(2)} s`,
    `wall ${(wallMs / 1000).toFixed(2)} s`,
    `peak RSS ${peakRssMib.toFixed(0)} MiB (${rssOverGuestMib.toFixed(0)} over guest RAM)`,
  ];
  if (firstInstructionMs !== undefined) {
    parts.push(
      `first instruction ${firstInstructionMs.toFixed(0)} ms (cpu ${firstInstructionCpuMs.toFixed(0)} ms)`,
      `${(instructions / 1e6).toFixed(0)} M instructions`,
    );
  }
  return parts.join(", ");
}

function fail(message) {
  process.stderr.write(`bench:boot: ${message}\n`);
  process.exit(2);
}
