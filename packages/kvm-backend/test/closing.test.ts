import assert from "node:assert/strict";
import { expect, describe, it } from "vitest";
import { KvmVcpu } from "../src/vcpu/kvm-vcpu.ts";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const SPIN = [0xeb, 0xfe];

describe.skipIf(!hasKvm)("a machine that is closed", () => {
  it("ends under a loop that runs it, and says so to whoever runs it again", async () => {
    const { vm, vcpu } = await RealModeGuest.create(SPIN);
    const exits: string[] = [];
    const loop = (async () => {
      for (;;) exits.push((await vcpu.run()).kind);
    })();
    const failed = expect(loop).rejects.toThrow("vCPU 0: run called after its machine was closed");
    await Promise.all([vm.close(), vm.close()]);
    await failed;
    expect(exits).toEqual(["interrupted"]);
  });

  it("does not reach the next machine's descriptors", async () => {
    const first = await RealModeGuest.create(SPIN);
    await first.vm.close();
    const second = await RealModeGuest.create(SPIN);
    try {
      for (const use of [
        () => first.vcpu.getState(),
        () => {
          first.vcpu.setDebug(undefined);
        },
        () => {
          first.vm.setIrq(4, true);
        },
        () => {
          first.vm.msi.signal(0xfee00000, 0x41);
        },
        () => first.vm.schedule!.save(),
        () => first.vm.addMemory({ name: "more", gpa: 2 ** 32, length: 4096 }),
      ])
        expect(use).toThrow(/closed/);
      first.vcpu.kick();
      expect(second.vm.irqchip.save()).toMatchObject({ i8259: { master: { irr: 0 } } });
    } finally {
      await second.vm.close();
    }
  });

  it("told of what failed while no run was pending, ends the next one with it", async () => {
    const { vm, vcpu } = await RealModeGuest.create(SPIN);
    try {
      assert(vcpu instanceof KvmVcpu);
      vcpu.abort(new Error("a bell's bug"));
      await expect(vcpu.run()).rejects.toThrow("a bell's bug");
      vcpu.kick();
      expect(await vcpu.run()).toEqual({ kind: "interrupted" });
    } finally {
      await vm.close();
    }
  });
});
