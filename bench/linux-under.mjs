/** One Linux with a device, under Northbridge's software CPU and under QEMU's TCG: what the benches of devices share. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { appendToInitramfs } from "../packages/cli/src/guest/index.ts";
import { node, root } from "../scripts/workspace.mjs";
import { findProgram } from "./watch-boot.mjs";

const CMDLINE = "console=ttyS0 cryptomgr.notests quiet";
const MEMORY_MIB = 256;
/** Id of the device that is measured. */
const BENCHED = "benched";
/** Longest that a machine may take. */
export const MOST_MS = 600_000;

const guest = join(root, "examples", "linux-serial", "guest");
/** Options of `parseArgs` that name the guest. */
export const guestOptions = {
  kernel: { type: "string", default: join(guest, "vmlinuz") },
  initrd: { type: "string", default: join(guest, "initrd.img") },
};

/** Writes an initramfs that runs the script `init` beside more files, and returns its path. */
export async function benchInitrd(directory, initrd, init, files) {
  const path = join(directory, "initrd.img");
  const script = { kind: "file", path: "/init", mode: 0o755, bytes: new TextEncoder().encode(init) };
  await writeFile(path, appendToInitramfs(await readFile(initrd), [...files, script]));
  return path;
}

/** Northbridge, and QEMU where it is installed: each with what `ofNorthbridge` or `ofQemu` gives for it. */
export function contestantsOf(ofNorthbridge, ofQemu) {
  const contestants = [{ name: "northbridge", ...ofNorthbridge }];
  const qemu = findProgram("qemu-system-x86_64");
  if (qemu === undefined) console.log("qemu-system-x86_64 is not installed: nothing to compare with\n");
  else contestants.push({ name: "qemu tcg", ...ofQemu(qemu) });
  return contestants;
}

/** The command line that runs the guest, from our sources; {@link accessesOf} says then what its device was asked. */
export async function northbridgeCommand({ directory, kernel, initrd, device }) {
  const machine = {
    machine: "pc-1",
    memory: { mib: MEMORY_MIB },
    boot: { kernel, initrd, cmdline: CMDLINE },
    devices: [{ id: BENCHED, ...device }],
  };
  const config = join(directory, "machine.json");
  await writeFile(config, JSON.stringify(machine));
  const main = join(root, "packages", "cli", "src", "main.ts");
  return [
    node,
    "--conditions=northbridge-source",
    main,
    "run",
    config,
    "--backend",
    "soft",
    "--stats",
    statsOf(directory),
  ];
}

const statsOf = (directory) => join(directory, "stats.json");

/**
 * Of the last run there, from probe to end: requests of the device, and by request its registers' accesses, each an exit
 * of the processor, the notifications among them, and interrupts.
 */
export async function accessesOf(directory) {
  const { devices } = JSON.parse(await readFile(statsOf(directory), "utf8"));
  const { requests, notifications, interrupts, ...rest } = devices[BENCHED];
  const accesses = ["portReads", "portWrites", "mmioReads", "mmioWrites"].map((kind) => rest[kind] ?? 0);
  const exits = accesses.reduce((sum, count) => sum + count);
  const each = (count) => Number((count / requests).toFixed(3));
  return { requests, exits: each(exits), notifications: each(notifications), interrupts: each(interrupts) };
}

/** QEMU's, with these arguments for its device. */
export function tcgCommand(qemu, { kernel, initrd, device }) {
  const memory = String(MEMORY_MIB);
  return [
    ...[
      qemu,
      "-M",
      "pc",
      "-accel",
      "tcg",
      "-m",
      memory,
      "-nodefaults",
      "-no-user-config",
      "-display",
      "none",
    ],
    ...["-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd, "-append", CMDLINE],
    ...device,
  ];
}
