import type { VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { Apic } from "./real-mode-code.ts";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

async function create(irqchip: "kernel" | "split", code: readonly number[] = []): Promise<RealModeGuest> {
  const guest = await RealModeGuest.create(code, { irqchip });
  open.add(guest.vm);
  return guest;
}

const out = (port: number, value: number): number[] => [0xb0, value, 0xe6, port];
/** Sets the 8259 pair up with vectors from 20h and 28h and unmasks input 4; OUT 0E0h, AL; JMP to itself. */
const SET_UP = [
  ...[...out(0x20, 0x11), ...out(0xa0, 0x11), ...out(0x21, 0x20), ...out(0xa1, 0x28)],
  ...[...out(0x21, 0x04), ...out(0xa1, 0x02), ...out(0x21, 0x01), ...out(0xa1, 0x01)],
  ...[...out(0x21, 0xef), ...out(0xa1, 0xff), 0xe6, 0xe0, 0xeb, 0xfe],
];

describe.skipIf(!hasKvm)("interrupt controllers in the kernel and outside", () => {
  it.for([
    ["kernel", "split"],
    ["split", "kernel"],
  ] as const)("have one state: from %s to %s and back", async ([from, to]) => {
    const [first, second, third] = [await create(from, SET_UP), await create(to), await create(from)];
    first.mapPorts({ base: 0xe0, length: 1 }, { read: () => 0, write: () => first.vcpu.kick() });
    await first.vcpu.run();
    first.vm.setIrq(4, true);
    first.vm.setIrq(17, true);
    const saved = first.vm.irqchip.save();
    expect(saved).toMatchObject({
      i8259: { master: { lines: 0x10, irr: 0x10, imr: 0xef, vectorBase: 0x20 }, slave: { vectorBase: 0x28 } },
      ioapic: { lines: (1 << 4) | (1 << 17) },
    });
    second.vm.irqchip.restore(structuredClone(saved));
    expect(second.vm.irqchip.save()).toEqual(saved);
    third.vm.irqchip.restore(structuredClone(second.vm.irqchip.save()));
    expect(third.vm.irqchip.save()).toEqual(saved);
  });

  it.for(["split", "none"] as const)(
    "are refused outside of the kernel (%s) where its i8254 is asked for",
    async (irqchip) => {
      await expect(RealModeGuest.create([], { irqchip, kernelPit: true })).rejects.toThrow(
        `kernelPit: the kernel's i8254 needs its interrupt controllers; expected irqchip kernel, found ${irqchip}`,
      );
    },
  );

  it.for(["kernel", "split"] as const)(
    "lose messages to local APICs that there are not: %s",
    async (irqchip) => {
      const guest = await RealModeGuest.create([], { irqchip, vcpus: 2 });
      open.add(guest.vm);
      for (const vcpu of guest.vm.vcpus) {
        const state = vcpu.getState();
        const lapic = Buffer.from(state.lapic, "base64");
        lapic.writeUInt32LE(0x1ff, Apic.SPURIOUS);
        lapic.writeUInt32LE(0x03000000, 0xd0); // both processors say that they are logical ids 0 and 1
        vcpu.setState({ ...state, lapic: lapic.toString("base64") });
      }
      guest.vm.msi.signal(0xfee80004, 0x40);
      expect(guest.vm.stats()).toMatchObject({ untakenMessages: 1 });
    },
  );
});
