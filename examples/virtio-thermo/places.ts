import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { builtInHypervisor, builtInRegistry } from "@northbridge/cli";
import { RealtimeClock, SlottedGuestMemory } from "@northbridge/core";
import { bootLinux } from "@northbridge/sdk/host";
import { FakeClock, VirtioBench } from "@northbridge/sdk/testing";
import { VhostUserBackend } from "@northbridge/vhost-user";
import { thermometer, virtioThermo } from "./virtio-thermo.ts";

/** Somewhere that the device runs. */
export interface Place {
  readonly name: string;
  /** Why it cannot be here. */
  missing(): string | undefined | Promise<string | undefined>;
  /** What two programs read that look one after the other, a second apart at least. */
  temperatures(): Promise<readonly string[]>;
}

const here = import.meta.dirname;
const guest = process.env["NORTHBRIDGE_GUEST"] ?? join(here, "../linux-serial/guest");
const [kernel, initrd] = [join(guest, "vmlinuz"), join(guest, "initrd.img")];
const noGuest = (): string | undefined =>
  existsSync(kernel) ? undefined : "no guest: northbridge guest linux --out examples/linux-serial/guest";

/** Looks twice, past the kernel's cache. */
const LOOK = "dd if=/dev/vda bs=512 count=1 iflag=direct 2>/dev/null";
const LOOK_TWICE = `${LOOK}; sleep 1.1; ${LOOK}`;
const parse = (text: string): readonly string[] => text.match(/\d+\.\d(?= {100})/g) ?? [];

const bench: Place = {
  name: "a test bench",
  missing: () => undefined,
  temperatures() {
    const clock = new FakeClock();
    const driver = new VirtioBench(thermometer(clock, 20)).start();
    const look = (): string => {
      const [header, data] = [driver.allocBytes(new Uint8Array(16)), driver.alloc(513)];
      driver.queue(0).add([{ gpa: header, length: 16 }], [{ gpa: data, length: 513 }]);
      driver.kick(0);
      return new TextDecoder().decode(driver.bytes(data, 512));
    };
    const first = look();
    clock.advance(1e9);
    return Promise.resolve(parse(first + look()));
  },
};

/** Why KVM cannot run a stock kernel here. */
export async function noKvmForKernels(): Promise<string | undefined> {
  const said: string[] = [];
  const { name } = await builtInHypervisor("auto", (line) => void said.push(line));
  return name === "kvm" ? undefined : said.join("; ");
}

const linux = (backend: "soft" | "kvm"): Place => ({
  name: `Linux, on ${backend === "soft" ? "the software CPU" : "KVM"}`,
  missing: async () => (backend === "kvm" ? await noKvmForKernels() : undefined) ?? noGuest(),
  async temperatures() {
    const hypervisor = await builtInHypervisor(backend);
    const registry = builtInRegistry();
    await using booted = await bootLinux({ hypervisor, registry, kernel, initrd, devices: [virtioThermo()] });
    return parse((await (await booted.guest()).exec(LOOK_TWICE)).stdout);
  },
});

const QEMU = "qemu-system-x86_64";
const MEMORY = "-object memory-backend-memfd,id=memory,size=256M,share=on -machine memory-backend=memory";

/** Runs a program and resolves with what it has written once that matches. `stop` ends it. */
function start(file: string, args: readonly string[]) {
  const child = spawn(file, args);
  let text = "";
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const heard = (bytes: Buffer): void => void (text += bytes.toString("latin1"));
  child.stdout.on("data", heard);
  child.stderr.on("data", heard);
  const until = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (pattern.test(text)) resolve(text);
      };
      child.stdout.on("data", look);
      void ended.then(() => {
        reject(new Error(`${file} ended: ${text.slice(-500)}`));
      });
      look();
    });
  const stop = async (): Promise<void> => {
    child.kill();
    await ended;
  };
  return { until, stop, type: (line: string) => child.stdin.write(line) };
}

/** QEMU's own front end for virtio disks, in front of the device. */
export const qemu: Place = {
  name: "a stock QEMU, through vhost-user",
  missing: () => (spawnSync(QEMU, ["--version"]).status === 0 ? noGuest() : `no ${QEMU}`),
  async temperatures() {
    const directory = await mkdtemp(join(tmpdir(), "northbridge-thermo-"));
    const socket = join(directory, "thermo.sock");
    const clock = new RealtimeClock();
    clock.resume();
    const ticks = setInterval(() => {
      clock.runDue();
    }, 50);
    const backend = new VhostUserBackend({
      device: thermometer(clock, 20),
      createMemory: (slots, written) => new SlottedGuestMemory(slots, written),
    });
    try {
      backend.listen(socket);
      const devices = `-chardev socket,id=thermo,path=${socket} -device vhost-user-blk-pci,chardev=thermo,num-queues=1`;
      const options = `-M pc -accel tcg -m 256 ${MEMORY} -nographic -no-reboot ${devices}`.split(" ");
      const boot = ["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 cryptomgr.notests"];
      const machine = start(QEMU, [...options, ...boot]);
      try {
        await machine.until(/guest ready[^]*# /);
        machine.type(`${LOOK_TWICE}; echo "[en""d]"\n`);
        return parse(await machine.until(/\[end\]/));
      } finally {
        await machine.stop();
      }
    } finally {
      clearInterval(ticks);
      await backend.close();
      await rm(directory, { recursive: true });
    }
  },
};

export const places: readonly Place[] = [bench, linux("soft"), linux("kvm"), qemu];
