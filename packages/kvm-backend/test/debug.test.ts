import type { VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { Apic } from "./real-mode-code.ts";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const COUNT = 0x2000;
/** INC word [2000h]; JMP to it. */
const LOOP = [0xff, 0x06, 0x00, 0x20, 0xeb, 0xfa];

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

describe.skipIf(!hasKvm)("debugging a guest that runs", () => {
  it("needs no pause: breakpoints come and go, steps begin", async () => {
    const guest = await RealModeGuest.create(LOOP);
    open.add(guest.vm);
    const { vcpu } = guest;
    const counted = async (): Promise<void> => {
      for (const before = guest.word(COUNT); guest.word(COUNT) === before; )
        await new Promise((resolve) => setImmediate(resolve));
    };
    for (let round = 0; round < 10; round++) {
      const run = vcpu.run();
      await counted();
      vcpu.setDebug({ breakpoints: [0x1004n] });
      expect(await run).toEqual({ kind: "debug", rip: 0x1004n });
      const again = vcpu.run();
      vcpu.setDebug(undefined);
      await counted();
      vcpu.setDebug({ singleStep: true });
      const exit = await again;
      expect(exit.kind).toBe("debug");
      vcpu.setDebug(undefined);
    }
  });

  it("has four breakpoints and says so", async () => {
    const guest = await RealModeGuest.create(LOOP);
    open.add(guest.vm);
    expect(() => {
      guest.vcpu.setDebug({ breakpoints: [1n, 2n, 3n, 4n, 5n] });
    }).toThrow("vCPU 0: KVM has 4 breakpoints, found 5");
  });

  it("executes a breakpoint's instruction when it goes on, whatever interrupts", async () => {
    const VECTOR = 0x40;
    const guest = await RealModeGuest.create([0xfb, 0x90, 0x43, 0xeb, 0xfd]); // STI; NOP; INC BX; JMP to it
    open.add(guest.vm);
    guest.ram.set([0xe6, 0xe4, 0xcf], 0x3000); // OUT 0E4h, AL; IRET
    guest.ram.set([0x00, 0x30, 0x00, 0x00], 4 * VECTOR);
    const { vcpu } = guest;
    const { regs, sregs, lapic, ...rest } = vcpu.getState();
    const page = Buffer.from(lapic, "base64");
    page.writeUInt32LE(0x1ff, Apic.SPURIOUS);
    vcpu.setState({
      ...rest,
      lapic: page.toString("base64"),
      regs: { ...regs, rsp: 0x8000n },
      sregs: { ...sregs, ss: { ...sregs.ss, base: 0n, selector: 0 } },
    });
    let interrupts = 0;
    guest.mapPorts({ base: 0xe4, length: 1 }, { read: () => 0, write: () => interrupts++ });
    vcpu.setDebug({ breakpoints: [0x1002n] });
    for (let count = 0n; count < 4n; count++) {
      expect(await vcpu.run()).toEqual({ kind: "debug", rip: 0x1002n });
      expect(vcpu.getState().regs.rbx & 0xffffn).toBe(count);
      guest.vm.msi.signal(0xfee00000, VECTOR);
    }
    expect(interrupts).toBe(3);
  });
});
