import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import type { InterruptLine } from "../contracts/index.ts";
import { PluginRegistry } from "../composition/plugin-registry.ts";
import { fakePlugin, powerPort } from "../testing/fake-devices.ts";
import { FakeHypervisor, type FakeStep } from "../testing/fake-hypervisor.ts";
import { POWER_OFF, RESET } from "../../test/bare-machine.ts";
import { createMachine, type MachineOptions } from "./create-machine.ts";
import type { Machine } from "./machine.ts";

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
function create(
  steps: readonly FakeStep[],
  onBoot: () => void = () => undefined,
  options: Partial<MachineOptions> = {},
): Promise<Machine> {
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
    ...options,
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

  it("a reset that is asked for before the guest begins does nothing, and the guest's own are carried out", async () => {
    let asked = 0;
    const machine = await create([
      (vm, options) => {
        if (++asked > 1) return undefined;
        return requestReset(vm, options);
      },
    ]);
    machine.power.reset();
    await machine.start();
    await expect.poll(() => machine.stats().resets).toBe(1);
    await machine.save(join(directory, "not-reset"));
    await machine.stop();
    expect([machine.stats().resets, events.filter((event) => event === "boot").length]).toEqual([1, 2]);
  });

  it("a save of a machine that cannot boot again is its end: half a reset guest does not run", async () => {
    let boots = 0;
    let saving: Promise<void> | undefined;
    const machine = await create(
      [
        (vm, options) => {
          saving ??= machine.save(join(directory, "half"));
          saving.catch(() => undefined);
          return requestReset(vm, options);
        },
      ],
      () => {
        if (++boots === 2) throw new Error("the kernel has gone");
      },
    );
    await machine.start();
    expect(await machine.stopped).toEqual({ kind: "error", detail: "the kernel has gone" });
    await expect(saving).rejects.toThrow("the kernel has gone");
    expect(events).toEqual(["boot", "resume", "pause", "reset", "boot", "pause"]);
  });

  it("a pause that a device asks for before the guest begins has it begin paused", async () => {
    const states: string[] = [];
    const told: string[] = [];
    for (const when of ["before", "meanwhile"]) {
      const machine = await create(
        [],
        () => {
          if (when === "meanwhile") machine.power.pause("the disk is full");
        },
        { onState: (state) => void states.push(state), onPause: (reason) => void told.push(reason) },
      );
      if (when === "before") machine.power.pause("the disk is full");
      await machine.start();
      await expect.poll(() => told.length).toBe(1);
      expect([machine.state, machine.pauseReason]).toEqual(["paused", "the disk is full"]);
      await machine.resume();
      expect([machine.state, machine.pauseReason]).toEqual(["running", undefined]);
      await machine.stop();
      expect([states.splice(0), told.splice(0)]).toEqual([
        ["paused", "running", "stopped"],
        ["the disk is full"],
      ]);
    }
  });

  it("a listener that throws is the end of the machine, not of one that says that it runs", async () => {
    for (const state of ["running", "paused"]) {
      const machine = await create([], undefined, {
        onState: (now) => {
          if (now === state) throw new Error("no listener");
        },
      });
      await machine.start();
      if (state === "paused") await machine.pause();
      expect(await machine.stopped).toEqual({ kind: "error", detail: "no listener" });
      expect(machine.state).toBe("stopped");
    }
  });

  it("a look at the processors gives the state of each, and the guest goes on from it", async () => {
    const machine = await createMachine({
      config: { machine: "bare-1", vcpus: 2, memory: { mib: 1 } },
      hypervisor: new FakeHypervisor(Array.from({ length: 10_000 }, (): FakeStep => () => undefined)),
      registry: new PluginRegistry(),
    });
    await expect(machine.look()).rejects.toMatchObject({ code: "NB_LIFECYCLE" });
    await machine.start();
    const [first, second] = [await machine.look(), await machine.look()];
    expect(first.map(({ mpState }) => mpState)).toEqual(["runnable", "waitForSipi"]);
    await expect
      .poll(async () => (await machine.look())[0]?.regs.rip)
      .toBeGreaterThan(second[0]?.regs.rip ?? 0n);
    const looking = machine.look();
    await Promise.all([looking, machine.pause()]);
    expect(machine.state).toBe("paused");
    await machine.stop();
  });

  it("a look lets no guest go on that has asked for a reset", async () => {
    let boots = 0;
    let looked: Promise<unknown> | undefined;
    const steps: FakeStep[] = [
      (vm, options) => {
        if (boots > 1) {
          options.ports.write(0xf4, 1, POWER_OFF);
          return undefined;
        }
        looked = machine.look();
        return requestReset(vm, options);
      },
      () => ({ kind: "halt" }), // what a guest does that waits for its reset
    ];
    const machine = await create(steps, () => boots++);
    await machine.start();
    expect(await machine.stopped).toEqual({ kind: "powerOff" });
    expect(await looked).toMatchObject([{ mpState: "runnable" }]);
    expect(boots).toBe(2);
  });

  it("a line that no device drops in a reset is high for the controllers again", async () => {
    const lines: InterruptLine[] = [];
    const holding = fakePlugin("@fake/devices/holding", (ctx) => {
      lines.push(ctx.irq(5));
      return {};
    });
    const hypervisor = new FakeHypervisor(Array.from({ length: 1000 }, (): FakeStep => () => undefined));
    const machine = await createMachine({
      config: { machine: "bare-1", memory: { mib: 1 }, devices: [holding(), holding()] },
      hypervisor,
      registry: new PluginRegistry(),
    });
    await machine.start();
    lines[0]?.set(true);
    machine.power.reset();
    await expect.poll(() => machine.stats().resets).toBe(1);
    lines[1]?.set(true);
    lines[0]?.set(false);
    lines[1]?.set(false);
    expect(hypervisor.vms[0]?.edges).toEqual(["5↑", "5↑", "5↓"]);
    await machine.stop();
  });

  it.each(["pause", "reset"] as const)(
    "a %s stops guest time before devices: what they have to finish takes none of it",
    async (what) => {
      const hypervisor = new FakeHypervisor(Array.from({ length: 10_000 }, (): FakeStep => () => undefined));
      const times: unknown[] = [];
      const slow = fakePlugin("@fake/devices/slow", (ctx) => ({
        pause: async () => {
          times.push(hypervisor.vms[0]?.told.at(-1), ctx.clock.nowNs());
          for (let turn = 0; turn < 20; turn++) await new Promise((done) => setImmediate(done));
          times.push(hypervisor.vms[0]?.told.at(-1), ctx.clock.nowNs());
        },
      }));
      const machine = await createMachine({
        config: { machine: "bare-1", memory: { mib: 1 }, devices: [slow()] },
        hypervisor,
        registry: new PluginRegistry(),
      });
      await machine.start();
      if (what === "pause") await machine.pause();
      else machine.power.reset();
      await expect.poll(() => times.length).toBe(4);
      expect(times).toEqual(["pause", times[1], "pause", times[1]]);
      if (what === "reset") await expect.poll(() => hypervisor.vms[0]?.told.at(-1)).toBe("resume");
      await machine.stop();
    },
  );
});
