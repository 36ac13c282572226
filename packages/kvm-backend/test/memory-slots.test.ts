import { readdirSync } from "node:fs";
import { createMachine, PluginRegistry } from "@northbridge/core";
import type { VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { kvmHypervisor } from "../src/index.ts";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const GIB = 2 ** 30;
const PAGE = 4096;

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

async function create(): Promise<VirtualMachine> {
  const { vm } = await RealModeGuest.create([]);
  open.add(vm);
  return vm;
}
const opened = (): number => readdirSync("/proc/self/fd").length;

describe.skipIf(!hasKvm)("a guest's memory under KVM", () => {
  it("is one piece of more than 4 GiB", async () => {
    const vm = await create();
    const length = 5 * GIB;
    const { bytes } = vm.addMemory({ name: "high", gpa: 4 * GIB, length });
    vm.dirtyLog.enable();
    bytes[length - 1] = 7;
    vm.memoryWritten(9 * GIB - 1, 1);
    expect(vm.dirtyLog.harvest()).toEqual([(9 * GIB) / PAGE - 1]);
    expect(bytes[length - 1]).toBe(7);
  });

  it.for([
    [{ gpa: 4 * GIB, length: 17 * GIB }, "a process maps at most 16384 MiB in one piece, found 17408"],
    [{ gpa: 0xfeffe000, length: PAGE }, "overlaps pages that KVM keeps"],
    [{ gpa: 2 ** 52, length: PAGE }, "ioctl failed with EINVAL"],
  ] as const)("is refused whole, and leaves nothing open: %j", async ([place, message]) => {
    const vm = await create();
    const before = opened();
    expect(() => vm.addMemory({ name: "more", ...place })).toThrow(message);
    expect(opened()).toBe(before);
    vm.dirtyLog.enable();
    expect(vm.dirtyLog.harvest()).toEqual([]);
  });

  it("is refused by the config's path where it is more than the process can map", async () => {
    const registry = new PluginRegistry([], [{ name: "bare", devices: () => [] }]);
    const config = { machine: "bare", memory: { mib: 32 * 1024 } };
    await expect(createMachine({ config, hypervisor: kvmHypervisor(), registry })).rejects.toMatchObject({
      code: "NB_CONFIG",
      message: "memory.mib: expected at most 16384, the limit of the kvm backend, found 32768",
    });
  });
});
