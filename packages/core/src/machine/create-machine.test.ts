import { describe, expect, it } from "vitest";
import type { DeviceEntry, MachineConfig } from "../contracts/index.ts";
import { fakePlugin, powerPort } from "../testing/fake-devices.ts";
import { FakeHypervisor } from "../testing/fake-hypervisor.ts";
import { createMachine, type MachineOptions } from "./create-machine.ts";
import { planMachine } from "./plan-machine.ts";
import { bare, POWER_OFF, power, registry } from "../../test/bare-machine.ts";

describe("createMachine", () => {
  it("refuses what a device tells the firmware where no table has a place for it", async () => {
    const odd = fakePlugin("@fake/devices/odd", (ctx) => {
      ctx.describe({ kind: "acpi-device" } as never);
      return {};
    });
    await expect(
      createMachine({ config: { ...bare, devices: [odd()] }, hypervisor: new FakeHypervisor([]), registry }),
    ).rejects.toThrow(
      "devices[0]: describe: expected one of the kinds acpiDevice, acpiPm, bootArchitecture, ioapic, irqOverride, pciRoot, found acpi-device",
    );
  });

  const make = (config: MachineConfig, extra: Partial<MachineOptions> = {}): Promise<unknown> =>
    createMachine({ config, hypervisor: new FakeHypervisor(), registry, ...extra });

  it("gives a device the memory that its plugin asks for, above all RAM", async () => {
    const seen: (readonly [string, number, number])[] = [];
    const plugin = fakePlugin("@fake/devices/owner", ({ id, ownMemory }) => {
      if (ownMemory !== undefined) seen.push([id, ownMemory.gpa, ownMemory.length]);
      return {};
    });
    const spec = { ...plugin.spec, memoryBytes: ({ bytes }: { readonly bytes: number }) => bytes };
    const owner = (id: string, bytes: number): DeviceEntry => ({ spec, input: { bytes }, id });
    const hypervisor = new FakeHypervisor([power(POWER_OFF)]);
    const devices = [powerPort(), owner("a", 8192), owner("none", 0), owner("b", 4096)];
    const machine = await createMachine({ config: { ...bare, devices }, hypervisor, registry });
    expect(seen).toEqual([
      ["a", 0x1_0000_0000, 8192],
      ["b", 0x1_4000_0000, 4096],
    ]);
    expect(machine.memory.view(0x1_4000_0000, 4096)?.length).toBe(4096);
    await machine.stop();
    await expect(
      createMachine({ config: { ...bare, devices: [owner("c", 100)] }, hypervisor, registry }),
    ).rejects.toMatchObject({ code: "NB_CONFIG", configPath: "devices[0]" });
  });

  it("refuses memory and vCPUs beyond the backend's limits", async () => {
    await expect(make({ ...bare, memory: { mib: 65 } })).rejects.toThrow(
      "memory.mib: expected at most 64, the limit of the fake backend, found 65",
    );
    await expect(make({ ...bare, memory: { mib: 0 } })).rejects.toThrow(
      "memory.mib: expected a whole number from 1, found 0",
    );
    await expect(make({ ...bare, vcpus: 5 })).rejects.toThrow(
      "vcpus: expected at most 4, the limit of the fake backend, found 5",
    );
  });

  it("counts the memory that devices bring, and checks it without making the machine", async () => {
    const spec = (bytes: number): DeviceEntry["spec"] => ({
      ...fakePlugin("@fake/devices/owner", () => ({})).spec,
      memoryBytes: () => bytes,
    });
    const plan = (mib: number, bytes: number): Promise<unknown> => {
      const devices = [{ spec: spec(bytes), input: {} }];
      return planMachine({ ...bare, memory: { mib }, devices }, registry, new FakeHypervisor());
    };
    await expect(plan(60, (4 << 20) + 4096)).rejects.toMatchObject({
      code: "NB_CONFIG",
      message:
        "memory.mib: expected at most 64, the limit of the fake backend, with the 5 MiB that devices bring, found 65",
    });
    await expect(plan(60, 5)).rejects.toMatchObject({ code: "NB_CONFIG", configPath: "devices[0]" });
    await expect(plan(60, 4 << 20)).resolves.toBeDefined();
  });

  it("refuses a region where there is memory, which would never answer", async () => {
    const at = (base: number): DeviceEntry =>
      fakePlugin("@fake/devices/window", (ctx) => {
        ctx.mapMmio({ base, length: 0x1000 }, { read: () => 0, write: () => undefined });
        return {};
      })();
    await expect(make({ ...bare, devices: [false as const, at(0xf_f001)] })).rejects.toMatchObject({
      code: "NB_REGION_OVERLAP",
      configPath: "devices[1]",
      message: "devices[1]: window [0xff001, 0x100001) overlaps memory: ram@0x0 [0x0, 0x100000)",
    });
    await expect(make({ ...bare, devices: [at(0x10_0000)] })).resolves.toBeDefined();
  });

  it("leaves nothing open when a device cannot be set up", async () => {
    const hypervisor = new FakeHypervisor();
    let closed = false;
    const first = fakePlugin("@fake/devices/first", (ctx) => {
      ctx.onClose(() => void (closed = true));
      return {};
    });
    const second = fakePlugin("@fake/devices/second", () => {
      throw new Error("no such disk");
    });
    await expect(make({ ...bare, devices: [first(), second()] }, { hypervisor })).rejects.toThrow(
      "no such disk",
    );
    expect([closed, hypervisor.vms[0]?.closed]).toEqual([true, 1]);
  });

  it("names the config path of a device's mistake", async () => {
    const devices = [false as const, { plugin: "debug-console", prot: 1 }];
    await expect(make({ ...bare, devices })).rejects.toMatchObject({
      code: "NB_CONFIG",
      message: 'devices[1]: unknown key "prot"; did you mean "port"?',
    });
    await expect(make({ ...bare, devices: [{ plugin: "debug-console", port: "x" }] })).rejects.toThrow(
      'devices[0].port: expected a number, found "x"',
    );
    await expect(
      make({ ...bare, devices: [{ plugin: "debug-console" }, { plugin: "debug-console" }] }),
    ).rejects.toMatchObject({
      code: "NB_REGION_OVERLAP",
      message: "devices[1]: debug-console-1 [0xe9, 0xea) overlaps debug-console [0xe9, 0xea) on the port bus",
    });
  });
});
