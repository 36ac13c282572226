import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMachine, type Machine, type PluginRegistry } from "@northbridge/core";
import type { DeviceEntry, Hypervisor, MachineConfig } from "@northbridge/core/contracts";
import { GuestConsole } from "./guest-console.ts";
import { LinuxGuest, within } from "./linux-guest.ts";

/** What to boot, and on what. */
export interface LinuxOptions {
  readonly hypervisor: Hypervisor;
  readonly registry: PluginRegistry;
  /** As `northbridge guest linux` prepares them: the initramfs says `Northbridge guest ready` and starts a shell. */
  readonly kernel: string;
  readonly initrd: string;
  /** Devices beside those of the machine type. */
  readonly devices?: readonly DeviceEntry[];
  /** @defaultValue `"pc-1"` */
  readonly machine?: string;
  /** @defaultValue 128 */
  readonly memoryMib?: number;
  /** Added to the kernel's command line. */
  readonly cmdline?: string;
  /** @defaultValue 5 minutes: on a software CPU of a loaded host a boot takes one */
  readonly timeoutMs?: number;
}

const BOOT_TIMEOUT_MS = 300_000;

/** A Linux that has booted once, as a snapshot: every {@link guest} starts right there. */
export class BootedLinux implements AsyncDisposable {
  readonly #options: LinuxOptions;
  readonly #directory: string;
  readonly #guests: LinuxGuest[] = [];

  constructor(options: LinuxOptions, directory: string) {
    this.#options = options;
    this.#directory = directory;
  }

  /** A guest of one's own, as it was right after boot. */
  async guest(): Promise<LinuxGuest> {
    const { machine, console } = await assemble(this.#options);
    const guest = new LinuxGuest(machine, console);
    this.#guests.push(guest);
    await machine.restore(join(this.#directory, "booted"));
    await machine.start();
    return guest;
  }

  /** Stops every guest and removes the snapshot. */
  async close(): Promise<void> {
    for (const guest of this.#guests.splice(0)) await guest.stop();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Boots a stock Linux with devices of yours once and takes a snapshot; each test gets a guest restored from it.
 * Throws `NB_HOST` with the end of the console where the guest does not come up.
 *
 * @example
 * ```ts
 * const linux = await bootLinux({ hypervisor, registry, kernel, initrd, devices: [thermometer()] });
 * const guest = await linux.guest();
 * expect(await guest.exec("devmem 0xfe800000 32")).toEqual({ stdout: "0x00000001\n", status: 0 });
 * ```
 */
export async function bootLinux(options: LinuxOptions): Promise<BootedLinux> {
  const directory = await mkdtemp(join(tmpdir(), "northbridge-linux-"));
  const linux = new BootedLinux(options, directory);
  try {
    const { machine, console } = await assemble(options);
    try {
      await machine.start();
      await within(
        options.timeoutMs ?? BOOT_TIMEOUT_MS,
        "booting Linux",
        machine,
        console,
        async (signal) => {
          await console.take(/Northbridge guest ready[^]*# (\x1b\[6n)?$/, signal);
          // From here the shell reads the terminal as a script: no prompts, no echo.
          console.type("stty -echo; echo qui''et; exec sh /dev/ttyS0\n");
          await console.take(/\nquiet\r?\n/, signal);
        },
      );
      await machine.save(join(directory, "booted"));
    } finally {
      await machine.stop();
    }
    return linux;
  } catch (error) {
    await linux.close();
    throw error;
  }
}

async function assemble(options: LinuxOptions): Promise<{ machine: Machine; console: GuestConsole }> {
  const { hypervisor, registry, kernel, initrd, devices = [] } = options;
  const console = new GuestConsole();
  const config: MachineConfig = {
    machine: options.machine ?? "pc-1",
    memory: { mib: options.memoryMib ?? 128 },
    boot: {
      kernel,
      initrd,
      cmdline: ["console=ttyS0 quiet cryptomgr.notests", options.cmdline].filter(Boolean).join(" "),
    },
    onReset: "stop",
    devices,
  };
  return { machine: await createMachine({ config, hypervisor, registry, console }), console };
}
