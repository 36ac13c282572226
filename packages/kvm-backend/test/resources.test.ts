import { readdirSync, readFileSync } from "node:fs";
import type { Hypervisor, VirtualMachine } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { kvmHypervisor } from "../src/index.ts";
import { realtime } from "./host-time.ts";
import { hasKvm } from "./usable-kvm.ts";

/** So many machines are made and closed; 200 and more with `NORTHBRIDGE_KVM_CYCLES`. */
const CYCLES = Number(process.env["NORTHBRIDGE_KVM_CYCLES"] ?? 12);

interface Held {
  readonly descriptors: number;
  readonly threads: number;
  readonly mappings: number;
}

/** A thread that has ended stays in proc(5) for a moment. */
const PATIENCE = { timeout: 20_000 };

/** What this process holds of the kernel: proc(5). */
function held(): Held {
  const maps = readFileSync("/proc/self/maps", "latin1").split("\n");
  return {
    descriptors: readdirSync("/proc/self/fd").length,
    threads: readdirSync("/proc/self/task").filter((tid) => nameOf(tid).startsWith("vcpu")).length,
    mappings: maps.filter((line) => /memfd:|kvm-vcpu/.test(line)).length,
  };
}

function nameOf(tid: string): string {
  try {
    return readFileSync(`/proc/self/task/${tid}/comm`, "latin1");
  } catch {
    return "";
  }
}

const bus = { read: () => 0xff, write: () => undefined };

function createVm(hypervisor: Hypervisor, vcpus: number): Promise<VirtualMachine> {
  return hypervisor.createVm({ vcpus, clock: realtime(), memoryBytes: 0x10000, ports: bus, mmio: bus });
}

describe.skipIf(!hasKvm)("what a machine under KVM holds", () => {
  it(`is let go with it, ${CYCLES} times`, { timeout: 0 }, async () => {
    const hypervisor = kvmHypervisor();
    await (await createVm(hypervisor, 2)).close();
    const before = held();
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const vm = await createVm(hypervisor, 1 + (cycle % 4));
      const { bytes } = vm.addMemory({ name: "ram", gpa: 0xf0000, length: 0x10000 });
      // At the reset vector: JMP to itself.
      bytes.set([0xeb, 0xfe], 0xfff0);
      vm.memoryWritten(0xf0000, 0x10000);
      const first = vm.vcpus[0]!;
      first.reset();
      const { sregs, ...rest } = first.getState();
      first.setState({ ...rest, sregs: { ...sregs, cs: { ...sregs.cs, base: 0xf0000n } } });
      const run = first.run();
      if (cycle % 2 === 0) first.kick();
      const [exit] = await Promise.all([run, vm.close()]);
      expect(exit.kind).toBe("interrupted");
    }
    await expect.poll(held, PATIENCE).toEqual(before);
  });

  it("is let go where the machine cannot be made", async () => {
    const before = held();
    const leaf = { subleaf: undefined, eax: 0, ebx: 0, ecx: 0, edx: 0 };
    // More leaves than a KVM takes (KVM_MAX_CPUID_ENTRIES).
    const leaves = Array.from({ length: 257 }, (_, i) => ({ ...leaf, leaf: 0x2000_0000 + i }));
    const failing = kvmHypervisor().createVm({
      vcpus: 2,
      clock: realtime(),
      memoryBytes: 0x10000,
      ports: bus,
      mmio: bus,
      cpuModel: { name: "too large", leaves },
    });
    await expect(failing).rejects.toThrow(/KVM_SET_CPUID2.*E2BIG/);
    await expect.poll(held, PATIENCE).toEqual(before);
  });
});
