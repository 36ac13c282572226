import { createMachine, PluginRegistry, RingBufferBackend, WatchedConsole } from "@northbridge/core";
import * as devicesLegacy from "@northbridge/devices-legacy";
import { close, open, OpenFlag } from "@northbridge/linux";
import type { CpuidLeaf, Hypervisor } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { supportedCpuid } from "../src/abi/cpuid.ts";
import { type EmulationFailureHook, kvmHypervisor, probeKvm } from "../src/index.ts";

/** A kernel built for KVM without a processor's help, and its initramfs that ends with `INIT: done`. */
const KERNEL = process.env["NORTHBRIDGE_KVM_GUEST_KERNEL"];
const INITRD = process.env["NORTHBRIDGE_KVM_GUEST_INITRD"];
const CMDLINE =
  "earlyprintk=serial,ttyS0 console=ttyS0 noxsave nosmap nosmep clearcpuid=popcnt,rdtscp,invpcid,pcid,cx16 " +
  "lpj=1000000 tsc=reliable no_timer_check rodata=off panic=-1 reboot=k";

const RFLAGS_AC = 0x40000n;
const BREAKPOINT = 3;

/** What such a KVM's emulator lacks and that kernel executes: INT3, STAC, CLAC and FWAIT. */
const fixups: EmulationFailureHook = ({ regs, instructionBytes: [first, second, third] }) => {
  if (first === 0xcc) return { regs: { ...regs, rip: regs.rip + 1n }, exception: { vector: BREAKPOINT } };
  if (first === 0x9b) return { regs: { ...regs, rip: regs.rip + 1n } };
  if (first !== 0x0f || second !== 0x01 || (third !== 0xca && third !== 0xcb)) return undefined;
  const rflags = third === 0xcb ? regs.rflags | RFLAGS_AC : regs.rflags & ~RFLAGS_AC;
  return { regs: { ...regs, rip: regs.rip + 3n, rflags } };
};

/** Takes XSAVE, AVX, SSE3 and later, x2APIC and paravirtual clocks out: bits of SDM 2A, CPUID. */
function withoutExtensions(leaf: CpuidLeaf): CpuidLeaf {
  const without = (value: number, ...bits: number[]): number =>
    bits.reduce((rest, bit) => (rest & ~(1 << bit)) >>> 0, value);
  switch (leaf.leaf) {
    case 1:
      return { ...leaf, ecx: without(leaf.ecx, 1, 9, 12, 13, 17, 19, 20, 23, 25, 26, 27, 28, 29, 30) };
    case 7:
      return { ...leaf, eax: 0, ebx: leaf.subleaf === 0 ? leaf.ebx & (1 << 9) : 0, ecx: 0, edx: 0 };
    case 0xd:
      return { ...leaf, eax: 0, ebx: 0, ecx: 0, edx: 0 };
    case 0x80000001:
      return { ...leaf, ecx: leaf.ecx & 1, edx: without(leaf.edx, 27) };
    case 0x40000001:
      return { ...leaf, eax: leaf.eax & 0x100000a, edx: 0 };
    case 0x80000008:
      return { ...leaf, ebx: 0 };
    default:
      return leaf;
  }
}

function plainKvm(): Hypervisor {
  const kvm = open("/dev/kvm", OpenFlag.O_RDWR);
  const leaves = supportedCpuid(kvm).map(withoutExtensions);
  close(kvm);
  const inner = kvmHypervisor({ onEmulationFailure: fixups });
  return {
    name: inner.name,
    createVm: (options) => inner.createVm({ ...options, cpuModel: { name: "plain", leaves } }),
  };
}

const exported: readonly unknown[] = Object.values(devicesLegacy);
type Registered = ConstructorParameters<typeof PluginRegistry>;
const plugins = exported.filter((value) => typeof value === "function" && "pluginName" in value);
const types = exported.filter(
  (value) => typeof value === "object" && value !== null && "devices" in value && "name" in value,
);

describe.skipIf(KERNEL === undefined || !probeKvm().usable)("Linux under KVM", () => {
  it("boots to userspace", { timeout: 120_000 }, async () => {
    const ring = new RingBufferBackend(1 << 20);
    const console = new WatchedConsole(ring);
    const machine = await createMachine({
      config: {
        machine: "pc-1",
        memory: { mib: 32 },
        boot: {
          kernel: KERNEL!,
          ...(INITRD !== undefined && { initrd: INITRD }),
          cmdline: CMDLINE,
        },
      },
      hypervisor: plainKvm(),
      registry: new PluginRegistry(plugins as Registered[0], types as NonNullable<Registered[1]>),
      console,
    });
    try {
      const done = new Promise<string>((resolve) => {
        console.watch("INIT: done", () => resolve("done"));
      });
      await machine.start();
      const end = await Promise.race([done, machine.stopped.then((reason) => JSON.stringify(reason))]);
      expect(end, ring.text()).toBe("done");
      expect(machine.stats().backend["emulationFailures"]).toBeGreaterThan(0);
    } finally {
      await machine.stop();
    }
  });
});
