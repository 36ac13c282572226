import type { VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
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
});
