import { createMachine, PluginRegistry, RingBufferBackend, WatchedConsole } from "@northbridge/core";
import * as devicesLegacy from "@northbridge/devices-legacy";
import { attachVirtio } from "@northbridge/devices-virtio";
import { definePlugin } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { thermometer } from "../../../examples/virtio-thermo/virtio-thermo.ts";
import { plainKvm } from "./emulated-host.ts";
import { hasKvm } from "./usable-kvm.ts";

/** A kernel that every KVM can run: `pnpm kvm-kernel` makes one. */
const KERNEL = process.env["NORTHBRIDGE_KVM_GUEST_KERNEL"];
const CMDLINE =
  "console=ttyS0 noxsave nosmap nosmep clearcpuid=popcnt,rdtscp,invpcid,pcid,cx16 lpj=1000000 tsc=reliable " +
  "no_timer_check rodata=off panic=-1 reboot=k virtio_mmio.device=4K@0xd0000000:5";

/** The example's device where the kernel looks for it: it has no PCI. */
const thermo = definePlugin({
  name: "@example/devices/virtioThermo",
  config: { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } },
  setup: (ctx) => attachVirtio(ctx, thermometer(ctx.clock, 20), { mmio: { gpa: 0xd000_0000, gsi: 5 } }),
});

// Where KVM has a processor's help the example's own test boots a stock kernel; everywhere else this one has to do.
describe.skipIf(KERNEL === undefined || !hasKvm)(
  "a device of examples under Linux under KVM (needs NORTHBRIDGE_KVM_GUEST_KERNEL)",
  () => {
    it("is read by the kernel's driver: so warm it is by then", { timeout: 1_200_000 }, async () => {
      const ring = new RingBufferBackend(1 << 20);
      const console = new WatchedConsole(ring);
      const machine = await createMachine({
        config: {
          machine: "pc-1",
          memory: { mib: 32 },
          boot: { kernel: KERNEL!, cmdline: CMDLINE },
          devices: [thermo()],
        },
        hypervisor: plainKvm(() => undefined),
        registry: new PluginRegistry([], [devicesLegacy.pc1]),
        console,
      });
      try {
        const done = new Promise<void>((resolve) => {
          console.watch("INIT: done", resolve);
        });
        await machine.start();
        await Promise.race([done, machine.stopped]);
        const seconds = machine.clock.nowNs() / 1e9;
        const [, shown] = /== \/dev\/vda\r?\n(\d+\.\d) +\r?\n/.exec(ring.text()) ?? [];
        expect(Number(shown), ring.text().slice(-500)).toBeGreaterThan(20);
        expect(Number(shown)).toBeLessThanOrEqual(20 + seconds / 2);
      } finally {
        await machine.stop();
      }
    });
  },
);
