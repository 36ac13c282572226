import { FakeMachine } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { pvpanic } from "./plugin.ts";

describe("pvpanic()", () => {
  it("offers its events and reports a panic, not a loaded crash kernel", async () => {
    const machine = new FakeMachine();
    await machine.add(pvpanic());
    expect(machine.ports.in(0x505)).toBe(0x03);
    machine.ports.out(0x505, 0x02);
    expect(machine.power.requests).toEqual([]);
    machine.ports.out(0x505, 0x01);
    expect(machine.power.requests).toEqual(["panic: the guest reported a panic (pvpanic)"]);
    expect(machine.firmware).toMatchObject([{ hid: "QEMU0001", ports: [{ base: 0x505, length: 1 }] }]);
  });
});
