import { readdirSync } from "node:fs";
import type { Doorbell, VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const COUNT = 0x2000;
/** Real mode, ES at the bell: INC word [COUNT]; MOV AX, [COUNT]; MOV ES:[0], AX; JMP to the first. */
const LOOP = [0xff, 0x06, 0x00, 0x20, 0xa1, 0x00, 0x20, 0x26, 0xa3, 0x00, 0x00, 0xeb, 0xf3];

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

/** A machine that counts in RAM and rings with the count. */
async function createRinger(
  doorbells: readonly Doorbell[],
  write: (offset: number, width: number, value: number, count: number) => void,
): Promise<{ readonly vm: VirtualMachine; readonly count: () => number; readonly unmap: () => void }> {
  const guest = await RealModeGuest.create(LOOP);
  open.add(guest.vm);
  const count = (): number => guest.word(COUNT);
  const unmap = guest.mapMmio({
    doorbells,
    read: () => 0,
    write: (offset, width, value) => {
      write(offset, width, value, count());
    },
  });
  return { vm: guest.vm, count, unmap };
}

describe.skipIf(!hasKvm)("doorbells under KVM", () => {
  it("ring without an exit, and for everything written before the run ended", async () => {
    const seen: number[] = [];
    const { vm, count } = await createRinger([{ offset: 0 }], (offset, width, value, now) => {
      expect([offset, width, value]).toEqual([0, 4, 0]);
      seen.push(now);
      if (seen.length === 20) vm.vcpus[0]!.kick();
    });
    expect(await vm.vcpus[0]!.run()).toEqual({ kind: "interrupted" });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    // Stopped between counting and ringing at most.
    expect(count() - seen.at(-1)!).toBeLessThanOrEqual(1);
    expect(vm.stats()).toMatchObject({ mmioWrites: 0, doorbells: seen.length });
  });

  it("ring for their value only: another one is an access with its value", async () => {
    const seen: number[] = [];
    const bell: Doorbell = { offset: 0, width: 2, value: 3 };
    const { vm } = await createRinger([bell], (_offset, width, value) => {
      expect(width).toBe(2);
      seen.push(value);
      if (value === 8) vm.vcpus[0]!.kick();
    });
    await vm.vcpus[0]!.run();
    expect(seen.toSorted((a, b) => a - b).slice(0, 8)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(vm.stats()["doorbells"]).toBe(1);
  });

  it("are gone with the region", async () => {
    let rings = 0;
    const { vm, unmap } = await createRinger([{ offset: 0 }], () => {
      rings++;
    });
    const run = vm.vcpus[0]!.run();
    while (rings === 0) await new Promise((resolve) => setImmediate(resolve));
    unmap();
    const before = rings;
    while (vm.stats()["mmioWrites"]! < 10) await new Promise((resolve) => setImmediate(resolve));
    vm.vcpus[0]!.kick();
    await run;
    expect(rings).toBe(before);
  });

  it("end the run that rang where the device throws", async () => {
    const { vm } = await createRinger([{ offset: 0 }], () => {
      throw new Error("a device's bug");
    });
    await expect(vm.vcpus[0]!.run()).rejects.toThrow("a device's bug");
  });

  it("leave nothing open where the kernel refuses them", async () => {
    const { vm } = await createRinger([], () => undefined);
    const opened = (): number => readdirSync("/proc/self/fd").length;
    const before = opened();
    const { ports } = vm.shortcuts!;
    expect(() => ports.doorbell!(0x100, { width: 3 as 4 }, () => undefined)).toThrow(/KVM_IOEVENTFD.*EINVAL/);
    expect(opened()).toBe(before);
  });
});
