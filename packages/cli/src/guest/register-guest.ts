import { InvalidArgumentError, Option } from "commander";
import type { CliHost } from "../host.ts";
import type { RegisterCommand } from "../commands/register-command.ts";
import { KERNEL_PACKAGES } from "./debian-packages.ts";
import type { KernelFlavour } from "./debian-packages.ts";
import { fetchLinuxGuest } from "./linux-guest.ts";

interface LinuxFlags {
  readonly flavour: KernelFlavour;
  readonly out?: string;
  readonly add: readonly { readonly host: string; readonly guest: string }[];
  readonly addBinary: readonly string[];
  readonly module: readonly string[];
}

/** Adds `guest linux` to the command line. Its errors are thrown, for the program to report. */
export const registerGuest: RegisterCommand = (program, host) => {
  const guest = program.command("guest").description("get guests to run");
  guest
    .command("linux")
    .description("fetch a stock Debian kernel and build an initramfs with a shell for it")
    .addOption(
      new Option("--flavour <flavour>", "which kernel")
        .choices(Object.keys(KERNEL_PACKAGES))
        .default("cloud"),
    )
    .option("--out <dir>", "where vmlinuz and initrd.img go (default: .northbridge/guest/FLAVOUR)")
    .option("--add <host:guest>", "put a file or directory into the initramfs", collectAdded, [])
    .option(
      "--add-binary <path>",
      "put a program with its shared libraries into the initramfs (busybox's shell prefers a command of its own by that name: call it by its path)",
      collect,
      [],
    )
    .option(
      "--module <name>",
      "put a module of the kernel's, and those it needs, into the initramfs",
      collect,
      [],
    )
    .action((flags: LinuxFlags) => runGuestLinux(flags, host));
};

async function runGuestLinux(flags: LinuxFlags, host: CliHost): Promise<void> {
  const { flavour, out, add, addBinary, module } = flags;
  const interrupted = new AbortController();
  const abort = (): void => interrupted.abort();
  const progress = progressLine(host.stderr);
  // An interrupt must still remove the half-made.
  process.once("SIGINT", abort);
  process.once("SIGTERM", abort);
  try {
    const guest = await fetchLinuxGuest({
      flavour,
      out,
      add,
      addBinaries: addBinary,
      modules: module,
      onStep: progress.show,
      signal: interrupted.signal,
    });
    progress.clear();
    host.stdout.write(`${guest.package}${guest.cached ? " (already there)" : ""}\n`);
    host.stdout.write(`kernel: ${guest.kernel}\ninitrd: ${guest.initrd}\n`);
  } finally {
    progress.clear();
    process.off("SIGINT", abort);
    process.off("SIGTERM", abort);
  }
}

/** One line that replaces itself, on a terminal; nothing elsewhere. */
function progressLine(stream: NodeJS.WriteStream): { show: (step: string) => void; clear: () => void } {
  const ERASE = "\r\x1b[K";
  if (!stream.isTTY) return { show: () => undefined, clear: () => undefined };
  return {
    show: (step) => stream.write(`${ERASE}northbridge: ${step} …`),
    clear: () => stream.write(ERASE),
  };
}

function collect(value: string, previous: readonly string[]): string[] {
  return [...previous, value];
}

function collectAdded(
  value: string,
  previous: LinuxFlags["add"],
): { readonly host: string; readonly guest: string }[] {
  const colon = value.lastIndexOf(":");
  if (colon <= 0 || !value.slice(colon + 1).startsWith("/")) {
    throw new InvalidArgumentError("expected HOST:GUEST with an absolute path in the guest");
  }
  return [...previous, { host: value.slice(0, colon), guest: value.slice(colon + 1) }];
}
