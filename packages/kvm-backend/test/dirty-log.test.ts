import type { VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { kvmHypervisor } from "../src/index.ts";
import { realtime } from "./host-time.ts";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const RAM = 0x100000;
const FIRST = 2;
const LAST = 250;
const paragraph = (page: number): number[] => [0, page];
/**
 * Real mode: MOV AX, first; then MOV ES, AX; INC word ES:[0]; ADD AX, 100h; CMP AX, last; JNE to the second;
 * OUT 0E0h, AX; JMP to the first.
 */
const SWEEP = [
  ...[0xb8, ...paragraph(FIRST), 0x8e, 0xc0, 0x26, 0xff, 0x06, 0x00, 0x00],
  ...[0x05, 0x00, 0x01, 0x3d, ...paragraph(LAST), 0x75, 0xf1, 0xe7, 0xe0, 0xeb, 0xea],
];
const SWEPT = Array.from({ length: LAST - FIRST }, (_, i) => FIRST + i);
/** INC word [0x5000]; JMP to it. */
const SPIN = [0xff, 0x06, 0x00, 0x50, 0xeb, 0xfa];

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

async function create(code: readonly number[], dirtyRing: number | undefined): Promise<RealModeGuest> {
  const guest = await RealModeGuest.create(code, { ram: RAM, dirtyRing });
  open.add(guest.vm);
  return guest;
}

/** The small ring is full before a sweep is through; the large one never is, also where KVM emulates ring 0 in long runs. */
describe.skipIf(!hasKvm).each([
  { name: "a bitmap", small: undefined, large: undefined },
  { name: "rings", small: 256, large: 65536 },
])("the dirty log in $name", ({ small, large }) => {
  it("has exactly the pages that the guest and devices wrote since it was read", async () => {
    const guest = await create(SWEEP, small);
    const { dirtyLog } = guest.vm;
    let sweeps = 0;
    guest.mapPorts(
      { base: 0xe0, length: 2 },
      {
        read: () => 0,
        write: () => {
          sweeps++;
          guest.vcpu.kick();
        },
      },
    );
    await guest.vcpu.run();
    expect(dirtyLog.harvest()).toEqual([]);
    dirtyLog.enable();
    expect(dirtyLog.harvest()).toEqual([]);
    for (let round = 0; round < 3; round++) {
      await guest.vcpu.run();
      guest.vm.memoryWritten(0xff000, 4096);
      expect(dirtyLog.harvest()).toEqual([...SWEPT, 255]);
      expect(dirtyLog.harvest()).toEqual([]);
    }
    dirtyLog.disable();
    await guest.vcpu.run();
    expect(dirtyLog.harvest()).toEqual([]);
    dirtyLog.enable();
    expect(dirtyLog.harvest()).toEqual([]);
    expect(sweeps).toBe(5);
    expect(guest.vm.stats()["dirtyRingFull"]! > 0).toBe(small !== undefined);
  });

  it("is read while the guest runs, and nothing is lost", async () => {
    const guest = await create(SPIN, large);
    const { dirtyLog } = guest.vm;
    dirtyLog.enable();
    const run = guest.vcpu.run();
    for (let round = 0, before = 0; round < 20; round++) {
      while (guest.word(0x5000) === before) await new Promise((resolve) => setImmediate(resolve));
      expect(dirtyLog.harvest()).toEqual([5]);
      before = guest.word(0x5000);
    }
    guest.vcpu.kick();
    expect(await run).toEqual({ kind: "interrupted" });
  });
});

describe.skipIf(!hasKvm)("dirty rings", () => {
  it("are refused where KVM has none of that size", async () => {
    const bus = { read: () => 0, write: () => undefined };
    const failing = kvmHypervisor({ dirtyRing: 3 }).createVm({
      vcpus: 1,
      clock: realtime(),
      memoryBytes: 0,
      ports: bus,
      mmio: bus,
    });
    await expect(failing).rejects.toThrow("dirtyRing: this KVM takes no rings of 3 entries");
  });
});
