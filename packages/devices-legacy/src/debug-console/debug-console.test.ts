import { Console, Log } from "@northbridge/sdk";
import { FakeCharBackend, FakeMachine, FakeSink } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { debugConsole } from "./plugin.ts";

describe("debugConsole()", () => {
  it("prints to the console and answers the probe", async () => {
    const console = new FakeCharBackend();
    const machine = new FakeMachine().provide(Console, console);
    await machine.add(debugConsole());
    for (const char of "hi") machine.ports.out(0xe9, char.charCodeAt(0));
    expect(console.text).toBe("hi");
    expect(machine.ports.in(0xe9)).toBe(0xe9);
  });

  it("prints to the log where the config says so, at a port of its choice", async () => {
    const log = new FakeSink();
    const machine = new FakeMachine().provide(Log, log);
    await machine.add(debugConsole({ port: 0x402, to: "log" }));
    machine.ports.out(0x402, 0x21);
    expect(log.text).toBe("!");
    await expect(machine.add(debugConsole())).rejects.toThrow(/console/);
  });
});
