import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { CpioEntry } from "@northbridge/sdk/host";
import { expect } from "vitest";
import type { KernelFlavour } from "../../../src/guest/index.ts";
import { initrdWith, stockGuest } from "./find-guest.ts";
import { GuestShell } from "./guest-shell.ts";
import { linuxConfig, machineFile, scratch, TUNED } from "./machine-file.ts";

export interface DevicesOptions {
  /** @defaultValue full */
  readonly kernel?: KernelFlavour;
  /** More of the kernel's command line. */
  readonly cmdline?: string;
  /** More files of the guest. */
  readonly extra?: (directory: string) => Promise<readonly CpioEntry[]>;
  /** Writes files of the host before the machine starts. */
  readonly files?: (directory: string) => Promise<void>;
  /** What the command says of the run on its standard error. @defaultValue nothing */
  readonly says?: RegExp;
}

/** Boots a machine with these devices and gives it to `use`, which finds sockets and files in the directory. */
export async function withDevices(
  devices: (directory: string) => readonly object[],
  use: (shell: GuestShell, directory: string) => Promise<void>,
  { kernel = "full", cmdline = "", extra, files: prepare, says = /^$/ }: DevicesOptions = {},
): Promise<void> {
  const guest = await stockGuest(kernel);
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const files =
    extra === undefined
      ? guest.files
      : await initrdWith(guest.files, await extra(directory.path), join(directory.path, "initrd.img"));
  await prepare?.(directory.path);
  const config = linuxConfig({
    ...files,
    cmdline: `${TUNED} ${cmdline}`,
    devices: devices(directory.path),
  });
  const file = await machineFile(directory.path, config);
  await using shell = await GuestShell.boot([
    file,
    "--timeout",
    "600",
    "--monitor",
    join(directory.path, "monitor"),
  ]);
  await use(shell, directory.path);
  expect(await shell.run("dmesg | grep -iE 'call trace|bug:|warning:|rcu.*stall|lockup'")).toMatchObject({
    text: "",
  });
  expect(await shell.end()).toMatchObject({ code: 0, err: expect.stringMatching(says) as string });
}

/** What the machine's monitor answers to a line. */
export async function monitor(directory: string, line: string): Promise<string> {
  const socket = connect(join(directory, "monitor"));
  socket.write(`${line}\n`);
  const answer = await readUntil(socket, "\n");
  socket.destroy();
  return answer.trim();
}

/** Everything a socket sends until it has sent this. */
export async function readUntil(socket: Socket, text: string): Promise<string> {
  let got = "";
  for await (const bytes of socket.iterator({ destroyOnReturn: false })) {
    got += String(bytes);
    if (got.includes(text)) return got;
  }
  throw new Error(`the socket ended before "${text}": ${got}`);
}
