import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createMachine,
  type Machine,
  PluginRegistry,
  RingBufferBackend,
  WatchedConsole,
} from "@northbridge/core";
import * as devicesLegacy from "@northbridge/devices-legacy";
import * as devicesVirtio from "@northbridge/devices-virtio";
import type { Hypervisor, VirtualMachine } from "@northbridge/sdk";
import { afterAll, describe, expect, it } from "vitest";
import { softHypervisor } from "@northbridge/soft-backend";
import { kvmHypervisor } from "../src/index.ts";
import { commonModel, fixups, plainKvm, withModel } from "./emulated-host.ts";
import { atHostTsc, hostTscKhz } from "./host-time.ts";
import { hasKvm } from "./usable-kvm.ts";

/**
 * A kernel that every KVM can run, also one without a processor's help, as `pnpm kvm-kernel` makes it; and an initramfs
 * that ends with `INIT: done`, where the kernel has none in it.
 */
const KERNEL = process.env["NORTHBRIDGE_KVM_GUEST_KERNEL"];
const INITRD = process.env["NORTHBRIDGE_KVM_GUEST_INITRD"];
if (KERNEL === undefined)
  console.log(
    "Linux under KVM skips: NORTHBRIDGE_KVM_GUEST_KERNEL names no kernel (pnpm kvm-kernel makes one)",
  );
const CMDLINE =
  "earlyprintk=serial,ttyS0 console=ttyS0 noxsave nosmap nosmep clearcpuid=popcnt,rdtscp,invpcid,pcid,cx16 " +
  "lpj=1000000 tsc=reliable no_timer_check rodata=off panic=-1 reboot=k " +
  "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6";
const PAGE = 4096;
const SECTORS = 2048;
const FIRST_BYTES = "The first bytes of the disk.....";
/** Where the guest is saved: its first word from userspace. */
const HELLO = "INIT: hello";
const DONE = "INIT: done";

const withoutNumbers = (text: string): string => text.replaceAll(/ *[\d.]+/g, " N");

const exported: readonly unknown[] = [...Object.values(devicesLegacy), ...Object.values(devicesVirtio)];
type Registered = ConstructorParameters<typeof PluginRegistry>;
const plugins = exported.filter((value) => typeof value === "function" && "pluginName" in value);
const types = exported.filter(
  (value) => typeof value === "object" && value !== null && "devices" in value && "name" in value,
);

const directory = mkdtempSync(join(tmpdir(), "northbridge-kvm-"));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** One machine with the test kernel, a disk and a network, watched through its console. */
class LinuxGuest {
  readonly machine: Machine;
  readonly vm: VirtualMachine;
  readonly #ring: RingBufferBackend;
  readonly #console: WatchedConsole;

  private constructor(parts: {
    machine: Machine;
    vm: VirtualMachine;
    ring: RingBufferBackend;
    console: WatchedConsole;
  }) {
    this.machine = parts.machine;
    this.vm = parts.vm;
    this.#ring = parts.ring;
    this.#console = parts.console;
  }

  static async create(
    makeHypervisor: (onCreate: (vm: VirtualMachine) => void) => Hypervisor,
    moreOfCmdline = "",
  ): Promise<LinuxGuest> {
    const disk = join(directory, "disk.img");
    const image = Buffer.alloc(SECTORS * 512);
    image.write(FIRST_BYTES);
    writeFileSync(disk, image);
    const ring = new RingBufferBackend(1 << 20);
    const console = new WatchedConsole(ring);
    let created: VirtualMachine | undefined;
    const machine = await createMachine({
      config: {
        machine: "pc-1",
        memory: { mib: 32 },
        boot: {
          kernel: KERNEL!,
          ...(INITRD !== undefined && { initrd: INITRD }),
          cmdline: CMDLINE + moreOfCmdline,
        },
        devices: [
          {
            plugin: "virtioBlk",
            id: "disk",
            mmio: { gpa: 0xd000_0000, gsi: 5 },
            disk: { kind: "file", path: disk },
          },
          { plugin: "virtioNet", id: "net", mmio: { gpa: 0xd000_1000, gsi: 6 }, link: { kind: "loopback" } },
        ],
      },
      hypervisor: makeHypervisor((vm) => {
        created = vm;
      }),
      registry: new PluginRegistry(plugins as Registered[0], types as NonNullable<Registered[1]>),
      console,
    });
    return new LinuxGuest({ machine, vm: created!, ring, console });
  }

  get output(): string {
    return this.#ring.text();
  }

  /** Resolves when the guest has written `text`; rejects where the machine ends before. */
  async writes(text: string): Promise<void> {
    const found = new Promise<true>((resolve) => {
      this.#console.watch(text, () => {
        resolve(true);
      });
    });
    const end = await Promise.race([found, this.machine.stopped]);
    if (end !== true) throw new Error(`ended with ${JSON.stringify(end)} before "${text}":\n${this.output}`);
  }

  /** A copy of RAM, and how to name its pages. */
  copyPages(): Map<number, Buffer> {
    const pages = new Map<number, Buffer>();
    for (const { gpa, bytes, readOnly } of this.machine.memory.slots) {
      if (readOnly) continue;
      for (let at = 0; at < bytes.length; at += PAGE)
        pages.set((gpa + at) / PAGE, Buffer.from(bytes.slice(at, at + PAGE)));
    }
    return pages;
  }
}

describe.skipIf(KERNEL === undefined || !hasKvm)("Linux under KVM", () => {
  it("boots, is saved where it is in userspace, and goes on in another machine", {
    timeout: 1_200_000,
  }, async () => {
    const saved = join(directory, "saved");
    const first = await LinuxGuest.create(plainKvm);
    let printed = 0;
    try {
      const hello = first.writes(HELLO);
      await first.machine.start();
      await hello;
      await first.machine.pause();
      printed = first.output.length;
      const before = first.copyPages();
      first.vm.dirtyLog.enable();
      await first.machine.save(saved);
      const done = first.writes(DONE);
      await first.machine.resume();
      await done;
      await first.machine.pause();
      const logged = new Set(first.vm.dirtyLog.harvest());
      const changed = [...first.copyPages()].filter(([page, bytes]) => !bytes.equals(before.get(page)!));
      expect(changed.length).toBeGreaterThan(0);
      expect(changed.map(([page]) => page).filter((page) => !logged.has(page))).toEqual([]);
      expect(logged.size).toBeLessThan(before.size / 2);
      expect(first.machine.stats().backend["emulationFailures"]).toBeGreaterThan(0);
    } finally {
      await first.machine.stop();
    }
    const second = await LinuxGuest.create(plainKvm);
    try {
      const done = second.writes(DONE);
      await second.machine.restore(saved);
      await second.machine.start();
      await done;
      // What the second machine writes is what the first one wrote behind the save, but for times and counts.
      const expected = first.output.slice(printed, first.output.indexOf(DONE));
      const found = second.output.slice(0, second.output.indexOf(DONE));
      expect(withoutNumbers(found)).toBe(withoutNumbers(expected));
      for (const output of [expected, found]) {
        expect(output).toContain(` ${SECTORS / 2} vda`);
        expect(output).toContain("eth0:");
        expect(output).toContain(FIRST_BYTES);
      }
    } finally {
      await second.machine.stop();
    }
  });

  it.for([
    ["split", ""],
    ["none", " noapic nolapic"],
  ] as const)("boots with irqchip %s", { timeout: 1_200_000 }, async ([irqchip, cmdline]) => {
    const guest = await LinuxGuest.create((onCreate) => plainKvm(onCreate, { irqchip }), cmdline);
    try {
      const done = guest.writes(DONE);
      await guest.machine.start();
      await done;
      expect(guest.output).toContain(` ${SECTORS / 2} vda`);
      expect(guest.output).toContain(FIRST_BYTES);
    } finally {
      await guest.machine.stop();
    }
  });

  it("moves from the software CPU to KVM and back while it goes on", { timeout: 1_200_000 }, async () => {
    const tscKhz = await hostTscKhz();
    const soft = (onCreate: (vm: VirtualMachine) => void): Hypervisor =>
      withModel(softHypervisor(), { ...commonModel, tscKhz }, onCreate);
    const kvm = (onCreate: (vm: VirtualMachine) => void): Hypervisor =>
      withModel(kvmHypervisor({ onEmulationFailure: fixups }), commonModel, onCreate);
    const stages = [
      { backend: soft, until: HELLO },
      { backend: kvm, until: "eth0:" },
      { backend: soft, until: DONE },
    ];
    let output = "";
    for (const [i, { backend, until }] of stages.entries()) {
      const guest = await LinuxGuest.create(backend);
      const vcpu = guest.vm.vcpus[0]!;
      try {
        const reached = guest.writes(until);
        if (i === 0) vcpu.setState(await atHostTsc(vcpu.getState()));
        else await guest.machine.restore(join(directory, `stage-${i - 1}`));
        await guest.machine.start();
        await reached;
        await guest.machine.pause();
        if (i + 1 < stages.length) await guest.machine.save(join(directory, `stage-${i}`));
        output += guest.output;
      } finally {
        await guest.machine.stop();
      }
    }
    expect(output).toContain(`${HELLO} from userspace`);
    expect(output).toContain(` ${SECTORS / 2} vda`);
    expect(output).toContain(FIRST_BYTES);
  });
});
