import { describe, expect, it } from "vitest";
import { Console, type StopReason } from "../contracts/index.ts";
import { RingBufferBackend } from "../host/ring-buffer.ts";
import { fakePlugin } from "../testing/fake-devices.ts";
import { FakeHypervisor, type FakeStep } from "../testing/fake-hypervisor.ts";
import { createMachine, type MachineOptions } from "./create-machine.ts";
import type { Machine } from "./machine.ts";
import { bare, power, registry, RESET } from "../../test/bare-machine.ts";

describe("Machine with a device whose code throws", () => {
  const boom = (): never => {
    throw new TypeError("boom");
  };
  const end = async (
    setup: Parameters<typeof fakePlugin>[1],
    program: readonly FakeStep[],
    options: Partial<MachineOptions> = {},
  ): Promise<{ machine: Machine; reason: StopReason }> => {
    const faulty = fakePlugin("@fake/devices/faulty", setup);
    const machine = await createMachine({
      config: { ...bare, devices: [faulty({}, { id: "gadget" })] },
      hypervisor: new FakeHypervisor(program),
      registry,
      ...options,
    });
    await machine.start();
    return { machine, reason: await machine.stopped };
  };

  it("says which device and which access, and stops", async () => {
    const seen: number[] = [];
    const map: Parameters<typeof fakePlugin>[1] = (ctx) => {
      ctx.mapPorts({ base: 0x90, length: 4 }, { read: boom, write: () => undefined });
      ctx.mapMmio({ base: 0x10_0000, length: 8 }, { read: () => 0, write: boom });
      return {};
    };
    const read: FakeStep = (_vm, { ports }) => void seen.push(ports.read(0x92, 2));
    const { machine, reason } = await end(map, [read]);
    expect(reason).toEqual({
      kind: "error",
      detail: "device gadget: read gadget+0x2 (2 bytes): boom",
    });
    expect(seen).toEqual([0xffff]);
    expect(machine.failure).toMatchObject({ code: "NB_DEVICE", cause: expect.any(TypeError) });
    const write: FakeStep = (_vm, { mmio }) => {
      mmio.write(0x10_0004, 4, 0xdead);
      return undefined;
    };
    expect((await end(map, [write])).reason).toEqual({
      kind: "error",
      detail: "device gadget: write gadget+0x4 (4 bytes): boom",
    });
  });

  it("says which device's timer or reset it was", async () => {
    const due: FakeStep = (_vm, { clock }) => {
      clock.runDue();
      return undefined;
    };
    const timer = await end(
      (ctx) => {
        ctx.clock.createTimer(boom).arm(0);
        return {};
      },
      [due],
    );
    expect(timer.reason).toEqual({
      kind: "error",
      detail: "device gadget: a timer: boom",
    });
    const reset = await end(
      (ctx) => {
        ctx.mapPorts(
          { base: 0xf4, length: 1 },
          {
            read: () => 0,
            write: () => {
              ctx.power.reset();
            },
          },
        );
        return { reset: boom };
      },
      [power(RESET)],
    );
    expect(reset.reason).toEqual({
      kind: "error",
      detail: "device gadget: reset: boom",
    });
  });

  it("says which device's callback it was, at once or later", async () => {
    const later = (): never => Promise.reject(new TypeError("boom")) as never;
    const idle: FakeStep[] = Array.from(
      { length: 1000 },
      (): FakeStep =>
        (_vm, { clock }) => {
          clock.runDue();
          return undefined;
        },
    );
    for (const receive of [boom, later]) {
      const typed: Parameters<typeof fakePlugin>[1] = (ctx) => {
        ctx.get(Console).connect(receive);
        return {
          resume: () => {
            console.send("x");
          },
        };
      };
      const console = new RingBufferBackend();
      expect((await end(typed, idle, { console })).reason).toEqual({
        kind: "error",
        detail: "device gadget: input: boom",
      });
    }
    const timed: Parameters<typeof fakePlugin>[1] = (ctx) => {
      ctx.clock.createTimer(later).arm(0);
      return {};
    };
    expect((await end(timed, idle)).reason).toEqual({
      kind: "error",
      detail: "device gadget: a timer: boom",
    });
  });

  it("closes everything all the same", async () => {
    const closed: string[] = [];
    const { machine, reason } = await end(
      (ctx) => {
        ctx.onClose(() => void closed.push(ctx.id));
        return { pause: boom, stats: boom };
      },
      [() => ({ kind: "halt" })],
    );
    expect([closed, machine.state, reason.kind]).toEqual([["gadget"], "stopped", "halted"]);
  });

  it("runs on where it cannot pause, and ends where it cannot resume", async () => {
    let steps = 0;
    const count: FakeStep = () => {
      steps++;
      return undefined;
    };
    const events: string[] = [];
    let canPause = false;
    const devices = [
      fakePlugin("@fake/devices/first", () => ({
        pause: () => void events.push("pause"),
        resume: () => void events.push("resume"),
      }))(),
      fakePlugin("@fake/devices/second", () => ({
        pause: () => (canPause ? undefined : boom()),
        resume: () => (canPause ? boom() : undefined),
      }))(),
    ];
    const machine = await createMachine({
      config: { ...bare, devices },
      hypervisor: new FakeHypervisor(Array.from({ length: 100_000 }, (): FakeStep => count)),
      registry,
    });
    await machine.start();
    const message = "device second: pause: boom";
    await expect(machine.pause()).rejects.toThrow(message);
    await expect(machine.save("/nowhere/at/all")).rejects.toThrow(message);
    const [state, before] = [machine.state, steps];
    while (steps < before + 3) await new Promise((done) => setImmediate(done));
    expect([state, events]).toEqual(["running", ["resume", "pause", "resume", "pause", "resume"]]);
    canPause = true;
    await machine.pause();
    await machine.resume();
    expect(await machine.stopped).toEqual({
      kind: "error",
      detail: "device second: resume: boom",
    });
  });
});
