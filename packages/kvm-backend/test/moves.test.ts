import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMachine, type Machine, PluginRegistry } from "@northbridge/core";
import { close, open, OpenFlag } from "@northbridge/linux";
import type { CpuConfig, Hypervisor, VirtualMachine } from "@northbridge/sdk";
import { softHypervisor, x86_64V2 } from "@northbridge/soft-backend";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { canScaleTsc } from "../src/abi/tsc-rate.ts";
import { kvmHypervisor } from "../src/index.ts";
import { atHostTsc, hostTscKhz } from "./host-time.ts";
import { hasKvm } from "./usable-kvm.ts";

const DATA = 0x4000;
/** Offsets of what the guest writes there. */
const At = { COUNT: 0, TSC: 8, VENDOR: 16, TSC_NUMERATOR: 20 } as const;
const bytes = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff, 0, 0];
const leafOf = (leaf: number): number[] => [0xb8, ...bytes(leaf), 0x31, 0xc9, 0x0f, 0xa2];
/** Long mode: counts in R15, writes the count, the time-stamp counter and what CPUID says in leaves 0 and 15H. */
const LOOP = [
  ...[0x49, 0xff, 0xc7, 0x4c, 0x89, 0x3c, 0x25, ...bytes(DATA + At.COUNT)],
  ...[0x0f, 0x31, 0x89, 0x04, 0x25, ...bytes(DATA + At.TSC), 0x89, 0x14, 0x25, ...bytes(DATA + At.TSC + 4)],
  ...[...leafOf(0), 0x89, 0x1c, 0x25, ...bytes(DATA + At.VENDOR)],
  ...[...leafOf(0x15), 0x89, 0x1c, 0x25, ...bytes(DATA + At.TSC_NUMERATOR)],
];
const PROGRAM = Uint8Array.of(...LOOP, 0xeb, -(LOOP.length + 2) & 0xff);

const directory = mkdtempSync(join(tmpdir(), "northbridge-moves-"));
const image = join(directory, "count");
writeFileSync(image, PROGRAM);
const registry = new PluginRegistry([], [{ name: "bare", devices: () => [] }]);
const machines: Machine[] = [];
afterEach(async () => {
  for (const machine of machines.splice(0)) await machine.stop();
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

class Counting {
  readonly machine: Machine;
  readonly vm: VirtualMachine;

  private constructor(machine: Machine, vm: VirtualMachine) {
    this.machine = machine;
    this.vm = vm;
  }

  static async create(backend: Hypervisor, cpu: CpuConfig): Promise<Counting> {
    let vm: VirtualMachine | undefined;
    const machine = await createMachine({
      config: {
        machine: "bare",
        memory: { mib: 2 },
        cpu,
        boot: { flat: { image, gpa: 0x1000, mode: "long" } },
      },
      hypervisor: {
        ...backend,
        createVm: async (options) => (vm = await backend.createVm(options)),
      },
      registry,
    });
    machines.push(machine);
    return new Counting(machine, vm!);
  }

  /** What the guest wrote last. */
  get seen(): { count: bigint; tsc: bigint; vendor: number; numerator: number } {
    const slot = this.machine.memory.slots[0]!.bytes;
    const view = new DataView(slot.buffer, slot.byteOffset + DATA);
    return {
      count: view.getBigUint64(At.COUNT, true),
      tsc: view.getBigUint64(At.TSC, true),
      vendor: view.getUint32(At.VENDOR, true),
      numerator: view.getUint32(At.TSC_NUMERATOR, true),
    };
  }

  async untilCountedTo(count: bigint): Promise<void> {
    while (this.seen.count < count) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** A processor that both backends have, at this KVM's rate. */
async function commonCpu(): Promise<CpuConfig> {
  const features = kvmHypervisor().unmetClaims!(x86_64V2).map((name) => [name, false] as const);
  return { model: "x86-64-v2", features: Object.fromEntries(features), tscKhz: await hostTscKhz() };
}

const backends = { kvm: kvmHypervisor, soft: softHypervisor };
type Backend = keyof typeof backends;

function hasTscScaling(): boolean {
  if (!hasKvm) return false;
  const kvm = open("/dev/kvm", OpenFlag.O_RDWR);
  try {
    return canScaleTsc(kvm);
  } finally {
    close(kvm);
  }
}
if (hasKvm && !hasTscScaling())
  console.log("this KVM has one rate of time-stamp counters: others are refused");

describe.skipIf(!hasKvm)("a machine that is saved", () => {
  it.for<readonly [Backend, Backend]>([
    ["kvm", "kvm"],
    ["soft", "kvm"],
    ["kvm", "soft"],
    ["soft", "soft"],
  ])("on %s goes on on %s, as the processor that it was", { timeout: 60_000 }, async ([from, to]) => {
    const cpu = await commonCpu();
    const saved = join(directory, `${from}-${to}`);
    const first = await Counting.create(backends[from](), cpu);
    const [vcpu] = first.vm.vcpus;
    vcpu!.setState(await atHostTsc(vcpu!.getState()));
    await first.machine.start();
    await first.untilCountedTo(100n);
    expect((await first.machine.look()).map(({ mpState }) => mpState)).toEqual(["runnable"]);
    await first.machine.save(saved);
    await first.machine.pause();
    const before = first.seen;

    const second = await Counting.create(backends[to](), cpu);
    await second.machine.restore(saved);
    const { count, tsc } = second.seen;
    expect(count).toBeGreaterThanOrEqual(100n);
    expect(second.vm.vcpus[0]!.getState().regs.r15 - count).toBeLessThanOrEqual(1n);
    await second.machine.start();
    await second.untilCountedTo(count + 100n);
    await second.machine.pause();
    const after = second.seen;
    expect(after.tsc).toBeGreaterThan(tsc);
    expect([after.vendor, after.numerator]).toEqual([before.vendor, before.numerator]);
    expect(after.numerator).toBe(cpu.tscKhz);
  });

  it("has the rate of its time-stamp counter, which a KVM has too, or names both", async () => {
    const { tscKhz: _, ...cpu } = await commonCpu();
    const saved = join(directory, "gigahertz");
    const first = await Counting.create(softHypervisor(), cpu);
    await first.machine.start();
    await first.machine.save(saved);
    const second = await Counting.create(kvmHypervisor(), cpu);
    const { cpuModel } = second.vm;
    if (hasTscScaling()) {
      await second.machine.restore(saved);
      expect(second.vm.cpuModel!.tscKhz).toBe(1_000_000);
      return;
    }
    const refusal = `counts at 1000000 kHz, this KVM's at ${cpuModel!.tscKhz} and at no other rate`;
    await expect(second.machine.restore(saved)).rejects.toThrow(refusal);
    expect(second.vm.cpuModel).toEqual(cpuModel);
    await expect(Counting.create(kvmHypervisor(), { tscKhz: 1_000_000 })).rejects.toThrow(
      `cpu.tscKhz: this KVM counts at ${cpuModel!.tscKhz} and at no other rate, found 1000000`,
    );
    await second.machine.start();
    await second.untilCountedTo(10n);
  });

  it("is refused by the names of features that another KVM's processor is not to have", async () => {
    const saved = join(directory, "features");
    const first = await Counting.create(kvmHypervisor(), {});
    await first.machine.start();
    await first.machine.save(saved);
    const second = await Counting.create(kvmHypervisor(), { features: { cx16: false, kvmclock: false } });
    await expect(second.machine.restore(saved)).rejects.toThrow(
      /cpu: the saved guest knows its processor as host; .*lacks cx16, kvmclock$/,
    );
  });

  it("is refused by the software CPU for what it knows of KVM", async () => {
    const saved = join(directory, "host");
    const first = await Counting.create(kvmHypervisor(), {});
    await first.machine.start();
    await first.machine.save(saved);
    const second = await Counting.create(softHypervisor(), {});
    await expect(second.machine.restore(saved)).rejects.toThrow(/lacks .*\bkvmclock\b/);
  });
});
