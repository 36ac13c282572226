import { accessSync, constants, existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { builtInHypervisor, builtInRegistry } from "@northbridge/cli";
import type { DeviceEntry, Hypervisor } from "@northbridge/sdk";
import { bootLinux } from "@northbridge/sdk/host";
import { testBench } from "@northbridge/sdk/testing";
import { noKvmForKernels, qemu } from "../virtio-thermo/places.ts";
import { startBareMetal } from "./bare-metal.ts";
import { registers, thermometer } from "./thermometer.ts";

type Register = keyof typeof registers.specs;

/** Who touches the registers, by a processor's instructions or without one. */
export interface Driver extends AsyncDisposable {
  read(register: Register): Promise<number>;
  write(register: Register, value: number): Promise<void>;
  /** A little more than a second of guest time passes. */
  aSecond(): Promise<void>;
}

/** Somewhere that the device runs. */
export interface Place {
  readonly name: string;
  /** Why it cannot be here. */
  missing(): Promise<string | undefined>;
  /** Where the registers can be reached. */
  drive?(): Promise<Driver>;
  /** Two measurements, a second apart at least, in degrees. */
  temperatures(driver: Driver | undefined): Promise<readonly number[]>;
}

const guest = process.env["NORTHBRIDGE_GUEST"] ?? join(import.meta.dirname, "../linux-serial/guest");
const [kernel, initrd] = [join(guest, "vmlinuz"), join(guest, "initrd.img")];
const noGuest = (): string | undefined =>
  existsSync(kernel) ? undefined : "no guest: northbridge guest linux --out examples/linux-serial/guest";

async function measureTwice(driver: Driver | undefined): Promise<readonly number[]> {
  if (driver === undefined) return [];
  await driver.write("CTRL", registers.masks.CTRL.ENABLE);
  const first = await driver.read("TEMP");
  await driver.aSecond();
  return [first / 1000, (await driver.read("TEMP")) / 1000];
}

async function onBench(): Promise<Driver> {
  const bench = await testBench(thermometer(), { registers });
  return {
    read: (register) => Promise.resolve(bench.regs[register].read()),
    write(register, value) {
      bench.regs[register].write(value);
      return Promise.resolve();
    },
    aSecond() {
      bench.clock.advance(1.1e9);
      return Promise.resolve();
    },
    [Symbol.asyncDispose]: () => bench.close(),
  };
}

const BASE = 0xfe80_0000;
const addressOf = (register: Register): number => BASE + registers.specs[register].offset;

/** What a user of Linux calls the registers: see `hwmon.sh`. */
const HWMON: Readonly<Record<Register, string>> = {
  CTRL: "temp1_enable",
  STATUS: "temp1_max_alarm",
  TEMP: "temp1_input",
  LIMIT: "temp1_max",
};

async function underLinux(hypervisor: Hypervisor): Promise<Driver> {
  const registry = builtInRegistry();
  const linux = await bootLinux({ hypervisor, registry, kernel, initrd, devices: [thermometer()] });
  const guest = await linux.guest();
  const run = async (command: string): Promise<string> => {
    const { stdout, stderr, status } = await guest.exec(command);
    if (status !== 0 || stderr !== "") throw new Error(`${command}: status ${status}: ${stderr}`);
    return stdout;
  };
  await guest.push("/bin/hwmon", await readFile(join(import.meta.dirname, "hwmon.sh")), { mode: 0o755 });
  return {
    read: async (register) => Number(await run(`hwmon ${HWMON[register]}`)),
    async write(register, value) {
      await run(`hwmon ${HWMON[register]} ${value}`);
    },
    async aSecond() {
      await run("sleep 1.1");
    },
    [Symbol.asyncDispose]: () => linux.close(),
  };
}

/** Guest instructions, where a kernel cannot be had. */
export async function onBareMetal(
  hypervisor: Hypervisor,
  device: DeviceEntry = thermometer(),
): Promise<Driver> {
  const machine = await startBareMetal(hypervisor, builtInRegistry(), [device]);
  return {
    read: (register) => machine.read32(addressOf(register)),
    write: (register, value) => machine.write32(addressOf(register), value),
    aSecond: () => new Promise((resolve) => setTimeout(resolve, 1100)),
    [Symbol.asyncDispose]: () => machine.stop(),
  };
}

export function noKvm(): string | undefined {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return "no /dev/kvm that may be used";
  }
}

export const places: readonly Place[] = [
  {
    name: "a test bench",
    missing: () => Promise.resolve(undefined),
    drive: onBench,
    temperatures: measureTwice,
  },
  {
    name: "Linux, on the software CPU",
    missing: () => Promise.resolve(noGuest()),
    drive: () => underLinux(builtInHypervisor("soft")),
    temperatures: measureTwice,
  },
  {
    name: "a guest without a system, on the software CPU",
    missing: () => Promise.resolve(undefined),
    drive: () => onBareMetal(builtInHypervisor("soft")),
    temperatures: measureTwice,
  },
  {
    name: "Linux, on KVM",
    missing: async () => (await noKvmForKernels()) ?? noGuest(),
    drive: async () => underLinux(await builtInHypervisor("kvm")),
    temperatures: measureTwice,
  },
  // Any KVM can do that, also one that would have to emulate a kernel.
  {
    name: "a guest without a system, on KVM",
    missing: () => Promise.resolve(noKvm()),
    drive: async () => onBareMetal(await builtInHypervisor("kvm")),
    temperatures: measureTwice,
  },
  // There a device needs a transport that QEMU has: the same thermometer as a virtio device.
  {
    name: qemu.name,
    missing: async () => qemu.missing(),
    temperatures: async () => (await qemu.temperatures()).map(Number),
  },
];
