import { FakeMachine } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { debugExit } from "./plugin.ts";

describe("debugExit()", () => {
  it("powers off for 0 and panics for anything else, whatever the width", async () => {
    const machine = new FakeMachine();
    await machine.add(debugExit());
    machine.ports.out(0xf4, 0, 4);
    machine.ports.out(0xf4, 3);
    machine.ports.out(0xf4, 0x1_0001, 4);
    expect(machine.power.requests).toEqual(["powerOff", "panic: debug exit 3", "panic: debug exit 65537"]);
    expect(machine.ports.in(0xf4)).toBe(0);
  });

  it("stands where the config says", async () => {
    const machine = new FakeMachine();
    await machine.add(debugExit({ port: 0x501 }));
    expect(machine.portBus.regions.map(({ base, length }) => [base, length])).toEqual([[0x501, 4]]);
    await expect(machine.add(debugExit({ port: 0x1_0000 }))).rejects.toThrow(/65536/);
  });
});
