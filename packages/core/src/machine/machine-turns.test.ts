import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { PluginRegistry } from "../composition/plugin-registry.ts";
import { fakePlugin, powerPort } from "../testing/fake-devices.ts";
import { FakeHypervisor, type FakeStep } from "../testing/fake-hypervisor.ts";
import { createMachine } from "./create-machine.ts";
import type { Machine } from "./machine.ts";

const POWER_OFF = 0;
const RESET = 1;
const directory = mkdtempSync(join(tmpdir(), "northbridge-turns-"));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** What happened, in its order. */
let events: string[] = [];
let onPause: () => void = () => undefined;
beforeEach(() => {
  events = [];
  onPause = () => undefined;
});
const watched = fakePlugin("@fake/devices/watched", () => ({
  pause: () => {
    events.push("pause");
    onPause();
  },
  resume: () => void events.push("resume"),
  reset: () => void events.push("reset"),
}));

/** A machine whose guest executes these steps after every boot, and then nothing. */
function create(steps: readonly FakeStep[], onBoot: () => void = () => undefined): Promise<Machine> {
  const idle: FakeStep = () => undefined;
  const program = [...steps, ...Array.from({ length: 10_000 }, () => idle)];
  return createMachine({
    config: {
      machine: "bare-1",
      memory: { mib: 1 },
      boot: { kernel: "/nowhere" },
      devices: [watched(), { plugin: "power-port" }],
    },
    hypervisor: new FakeHypervisor(program),
    registry: new PluginRegistry([powerPort]),
    bootLoader: () => {
      events.push("boot");
      onBoot();
      return Promise.resolve({});
    },
  });
}

const requestReset: FakeStep = (_vm, { ports }) => {
  ports.write(0xf4, 1, RESET);
  return undefined;
};

describe("operations that meet", () => {
  it("a reset that is asked for while a pause is due is carried out, and the guest begins when it is resumed", async () => {
    let pausing: Promise<void> | undefined;
    const machine = await create([
      (vm, options) => {
        events.push("guest");
        if (pausing !== undefined) {
          options.ports.write(0xf4, 1, POWER_OFF);
          return undefined;
        }
        pausing = machine.pause();
        return requestReset(vm, options);
      },
    ]);
    await machine.start();
    await expect.poll(() => machine.stats().resets).toBe(1);
    await pausing;
    expect(machine.state).toBe("paused");
    for (let i = 0; i < 10; i++) await new Promise((done) => setImmediate(done));
    expect(events).toEqual(["boot", "resume", "guest", "pause", "reset", "boot"]);
    await machine.resume();
    expect(await machine.stopped).toEqual({ kind: "powerOff" });
    expect(events.slice(6)).toEqual(["resume", "guest", "pause"]);
  });

  it("a stop while the guest boots again is the end: nothing goes on for it", async () => {
    let boots = 0;
    const machine = await create([requestReset], () => {
      if (++boots === 2) void machine.stop();
    });
    await machine.start();
    expect(await machine.stopped).toEqual({ kind: "requested" });
    expect(events).toEqual(["boot", "resume", "pause", "reset", "boot", "pause"]);
  });

  it("a stop while the machine is saved is the end, and the save is whole", async () => {
    const machine = await create([]);
    await machine.start();
    const saved = join(directory, "saved");
    onPause = () => {
      onPause = () => undefined;
      void machine.stop();
    };
    await machine.save(saved);
    expect(await machine.stopped).toEqual({ kind: "requested" });
    expect(events).toEqual(["boot", "resume", "pause", "pause"]);
    const other = await create([]);
    await other.restore(saved);
    await other.stop();
  });
});
