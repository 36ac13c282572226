import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Console, type DeviceEntry, type MachineConfig, type StopReason } from "../contracts/index.ts";
import { PluginRegistry } from "../composition/plugin-registry.ts";
import { RingBufferBackend } from "../host/ring-buffer.ts";
import { readManifest } from "../snapshot/read-snapshot.ts";
import { debugConsole, fakePlugin, powerPort } from "../testing/fake-devices.ts";
import { FakeHypervisor, type FakeStep } from "../testing/fake-hypervisor.ts";
import { createMachine, type MachineOptions } from "./create-machine.ts";
import type { Machine } from "./machine.ts";
import { planMachine } from "./plan-machine.ts";

const registry = new PluginRegistry([debugConsole, powerPort]);

const print = (text: string): FakeStep[] =>
  Array.from(text, (char) => (_vm, { ports }) => {
    ports.write(0xe9, 1, char.charCodeAt(0));
    return undefined;
  });
const power =
  (value: number): FakeStep =>
  (_vm, { ports }) => {
    ports.write(0xf4, 1, value);
    return undefined;
  };
const POWER_OFF = 0;
const RESET = 1;
const PANIC = 2;
const PAUSE = 3;

const bare: MachineConfig = {
  machine: "bare-1",
  memory: { mib: 1 },
  devices: [{ plugin: "debug-console" }, { plugin: "power-port" }],
};

const run = async (
  program: readonly FakeStep[],
  options: Partial<MachineOptions> = {},
): Promise<{ reason: StopReason; text: string; hypervisor: FakeHypervisor }> => {
  const hypervisor = new FakeHypervisor(program);
  const console = new RingBufferBackend();
  const machine = await createMachine({ config: bare, hypervisor, registry, console, ...options });
  await machine.start();
  const reason = await machine.stopped;
  return { reason, text: console.text(), hypervisor };
};

describe("Machine", () => {
  it("runs a guest until it powers off, and closes everything", async () => {
    const closed: string[] = [];
    const closing = fakePlugin("@fake/devices/closing", (ctx) => {
      ctx.onClose(() => void closed.push(`${ctx.id} first`));
      ctx.onClose(async () => {
        await Promise.resolve();
        closed.push(`${ctx.id} second`);
      });
      return { pause: () => void closed.push(`${ctx.id} pauses`) };
    });
    const config = {
      ...bare,
      devices: [...(bare.devices ?? []), closing(), false as const, closing({}, { id: "other" })],
    };
    const { reason, text, hypervisor } = await run([...print("hi"), power(POWER_OFF)], { config });
    expect(reason).toEqual({ kind: "powerOff" });
    expect(text).toBe("hi");
    expect(hypervisor.vms[0]?.closed).toBe(1);
    expect(closed).toEqual([
      "closing pauses",
      "other pauses",
      "other second",
      "other first",
      "closing second",
      "closing first",
    ]);
  });

  it("says why it stopped", async () => {
    expect((await run([power(PANIC)])).reason).toEqual({ kind: "panic", detail: "the fake panicked" });
    expect((await run([() => ({ kind: "shutdown", detail: "#DF" })])).reason).toEqual({
      kind: "tripleFault",
      detail: "#DF",
    });
    expect((await run([() => ({ kind: "halt" })])).reason).toEqual({ kind: "halted" });
    const error = {
      kind: "error",
      detail: "no such instruction",
      rip: 0x1000n,
      instructionBytes: Uint8Array.of(0x0f, 0x0b),
    } as const;
    expect((await run([() => error])).reason).toEqual({
      kind: "error",
      detail: "vCPU 0: no such instruction at 0x1000 [0f 0b]",
    });
    expect((await run([power(RESET)], { config: { ...bare, onReset: "stop" } })).reason).toEqual({
      kind: "reset",
    });
    const broken: FakeStep = () => {
      throw new Error("device bug");
    };
    expect((await run([broken])).reason).toEqual({ kind: "error", detail: "vCPU 0: device bug" });
  });

  it("goes on while another vCPU is alive", async () => {
    const hypervisor = new FakeHypervisor([() => ({ kind: "halt" })]);
    const machine = await createMachine({ config: { ...bare, vcpus: 2 }, hypervisor, registry });
    await machine.start();
    await machine.pause();
    await machine.resume();
    expect(machine.state).toBe("running");
    await machine.stop();
    expect(await machine.stopped).toEqual({ kind: "requested" });
    expect(machine.state).toBe("stopped");
  });

  it("boots again after a reset, from power-on state", async () => {
    let boots = 0;
    const program: FakeStep[] = [
      ...print("x"),
      (vm, { ports }) => {
        vm.irqchipState = 9;
        ports.write(0xf4, 1, boots < 3 ? RESET : POWER_OFF);
        return undefined;
      },
    ];
    const irqchips: (number | undefined)[] = [];
    const counts: number[] = [];
    const hypervisor = new FakeHypervisor(program);
    const console = new RingBufferBackend();
    const machine = await createMachine({
      config: { ...bare, boot: { kernel: "/nowhere" } },
      hypervisor,
      registry,
      console,
      bootLoader: async () => {
        await Promise.resolve();
        boots++;
        irqchips.push(hypervisor.vms[0]?.irqchipState);
        counts.push(machine.stats().devices["debug-console"]?.["bytes"] ?? -1);
        return {};
      },
    });
    await machine.start();
    expect(await machine.stopped).toEqual({ kind: "powerOff" });
    expect(console.text()).toBe("xxx");
    expect(irqchips).toEqual([0, 0, 0]);
    expect(counts).toEqual([0, 0, 0]);
    expect(machine.stats()).toMatchObject({
      resets: 2,
      backend: { instructions: 7 },
      devices: { "debug-console": { bytes: 1 } },
    });
  });

  it("starts vCPU 0 as the boot loader says", async () => {
    const { text } = await run([...print("abc"), power(POWER_OFF)], {
      config: { ...bare, boot: {} },
      bootLoader: ({ memory, memoryMap, vcpus }) => {
        expect(memory.writeU8(0x1000, 1)).toBe(true);
        expect(memoryMap).toEqual([{ gpa: 0, length: 1 << 20, kind: "ram" }]);
        expect(vcpus).toBe(1);
        const rip = 1n;
        return Promise.resolve({ regs: { rip } as never });
      },
    });
    expect(text).toBe("bc");
  });

  it("fails to start, and closes, when the boot loader fails", async () => {
    const hypervisor = new FakeHypervisor();
    const machine = await createMachine({
      config: { ...bare, boot: { kernel: "/nowhere/bzImage" } },
      hypervisor,
      registry,
      bootLoader: async ({ boot, readFile }) => {
        await readFile(boot.kernel ?? "");
        return {};
      },
    });
    await expect(machine.start()).rejects.toMatchObject({
      code: "NB_BOOT_IMAGE",
      message: "/nowhere/bzImage: cannot read the image: there is no such file or directory",
    });
    await machine.stop();
    expect(hypervisor.vms[0]?.closed).toBe(1);
  });

  it("refuses what its state does not allow", async () => {
    const machine = await createMachine({ config: bare, hypervisor: new FakeHypervisor(), registry });
    await expect(machine.pause()).rejects.toMatchObject({ code: "NB_LIFECYCLE" });
    await machine.start();
    await expect(machine.start()).rejects.toThrow(/starting needs a machine that is created, not running/);
    await machine.stop();
    await machine.stop();
    await expect(machine.resume()).rejects.toThrow(/has stopped/);
  });

  it("has the backend's time stand still while it does", async () => {
    const hypervisor = new FakeHypervisor();
    const machine = await createMachine({ config: bare, hypervisor, registry });
    const [vm] = hypervisor.vms;
    await machine.start();
    expect(vm!.told.splice(0)).toEqual(["resume"]);
    await machine.pause();
    expect(vm!.told.splice(0)).toEqual(["pause"]);
    await machine.resume();
    machine.power.reset();
    await machine.pause();
    expect(vm!.told).toEqual(["resume", "pause", "reset", "resume", "pause"]);
    await machine.stop();
  });

  it("closes what it has where a processor cannot be stopped", async () => {
    const hypervisor = new FakeHypervisor();
    const machine = await createMachine({ config: bare, hypervisor, registry });
    await machine.start();
    const [vcpu] = hypervisor.vms[0]!.vcpus;
    vcpu!.kick = () => {
      throw new Error("no such thread");
    };
    await machine.stop();
    expect(await machine.stopped).toEqual({ kind: "error", detail: "closing: no such thread" });
    expect(hypervisor.vms[0]?.closed).toBe(1);
  });

  it("resets a guest that has asked for it before it saves it", async () => {
    const directory = mkdtempSync(join(tmpdir(), "northbridge-reset-"));
    const saved = join(directory, "saved");
    const program: FakeStep[] = [
      (vm, options) => {
        if (machine.stats().resets > 0) return undefined;
        void machine.save(saved).then(() => machine.stop());
        return power(RESET)(vm, options);
      },
    ];
    const machine = await createMachine({ config: bare, hypervisor: new FakeHypervisor(program), registry });
    try {
      await machine.start();
      await machine.stopped;
      expect(machine.stats().resets).toBe(1);
      expect((await readManifest(saved)).vcpus[0]?.regs.rip).toBe(0n);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("gives a device the memory that its plugin asks for, above all RAM", async () => {
    const seen: (readonly [string, number, number])[] = [];
    const plugin = fakePlugin("@fake/devices/owner", ({ id, ownMemory }) => {
      if (ownMemory !== undefined) seen.push([id, ownMemory.gpa, ownMemory.length]);
      return {};
    });
    const spec = { ...plugin.spec, memoryBytes: ({ bytes }: { readonly bytes: number }) => bytes };
    const owner = (id: string, bytes: number): DeviceEntry => ({ spec, input: { bytes }, id });
    const hypervisor = new FakeHypervisor([power(POWER_OFF)]);
    const devices = [powerPort(), owner("a", 8192), owner("none", 0), owner("b", 4096)];
    const machine = await createMachine({ config: { ...bare, devices }, hypervisor, registry });
    expect(seen).toEqual([
      ["a", 0x1_0000_0000, 8192],
      ["b", 0x1_4000_0000, 4096],
    ]);
    expect(machine.memory.view(0x1_4000_0000, 4096)?.length).toBe(4096);
    await machine.stop();
    await expect(
      createMachine({ config: { ...bare, devices: [owner("c", 100)] }, hypervisor, registry }),
    ).rejects.toMatchObject({ code: "NB_CONFIG", configPath: "devices[0]" });
  });

  it("pauses where a device asks for it, says why, and goes on when told", async () => {
    const hypervisor = new FakeHypervisor([power(PAUSE), ...print("x"), power(POWER_OFF)]);
    const console = new RingBufferBackend();
    const paused = Promise.withResolvers<string>();
    const onPause = (reason: string): void => {
      paused.resolve(reason);
    };
    const machine = await createMachine({ config: bare, hypervisor, registry, console, onPause });
    await machine.start();
    expect(await paused.promise).toBe("the fake is full");
    expect([machine.state, machine.pauseReason]).toEqual(["paused", "the fake is full"]);
    await machine.resume();
    expect(machine.pauseReason).toBeUndefined();
    expect(await machine.stopped).toEqual({ kind: "powerOff" });
    expect(console.text()).toBe("x");
  });

  it("stands still while paused", async () => {
    let steps = 0;
    const count: FakeStep = () => {
      steps++;
      return undefined;
    };
    const events: string[] = [];
    const device = fakePlugin("@fake/devices/pausing", () => ({
      pause: () => void events.push("pause"),
      resume: () => void events.push("resume"),
    }));
    const machine = await createMachine({
      config: { ...bare, devices: [device()] },
      hypervisor: new FakeHypervisor(Array.from({ length: 100_000 }, () => count)),
      registry,
    });
    await machine.start();
    await new Promise((done) => setImmediate(done));
    await machine.pause();
    const [before, time] = [steps, machine.clock.nowNs()];
    for (let i = 0; i < 10; i++) await new Promise((done) => setImmediate(done));
    expect([steps, machine.clock.nowNs()]).toEqual([before, time]);
    await machine.resume();
    for (let i = 0; i < 10; i++) await new Promise((done) => setImmediate(done));
    expect(steps).toBeGreaterThan(before);
    await machine.stop();
    expect(events).toEqual(["resume", "pause", "resume", "pause"]);
  });

  describe("with a device whose code throws", () => {
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

  it("keeps two machines in one process apart", async () => {
    const consoles = [new RingBufferBackend(), new RingBufferBackend()];
    const hypervisors = [
      new FakeHypervisor([...print("one"), power(POWER_OFF)]),
      new FakeHypervisor([...print("two!"), power(PANIC)]),
    ];
    const machines = await Promise.all(
      [0, 1].map((i) => {
        const [hypervisor, console] = [hypervisors[i], consoles[i]];
        if (!hypervisor || !console) throw new Error("unreachable");
        return createMachine({ config: bare, hypervisor, console, registry });
      }),
    );
    await Promise.all(machines.map((machine) => machine.start()));
    const reasons = await Promise.all(machines.map((machine) => machine.stopped));
    expect(reasons.map(({ kind }) => kind)).toEqual(["powerOff", "panic"]);
    expect(consoles.map((console) => console.text())).toEqual(["one", "two!"]);
    expect(machines.map((machine) => machine.stats().devices["debug-console"])).toEqual([
      { portReads: 0, portWrites: 3, bytes: 3 },
      { portReads: 0, portWrites: 4, bytes: 4 },
    ]);
  });
});

describe("createMachine", () => {
  it("refuses what a device tells the firmware where no table has a place for it", async () => {
    const odd = fakePlugin("@fake/devices/odd", (ctx) => {
      ctx.describe({ kind: "acpi-device" } as never);
      return {};
    });
    await expect(
      createMachine({ config: { ...bare, devices: [odd()] }, hypervisor: new FakeHypervisor([]), registry }),
    ).rejects.toThrow(
      "devices[0]: describe: expected one of the kinds acpiDevice, acpiPm, bootArchitecture, ioapic, irqOverride, pciRoot, found acpi-device",
    );
  });

  const make = (config: MachineConfig, extra: Partial<MachineOptions> = {}): Promise<unknown> =>
    createMachine({ config, hypervisor: new FakeHypervisor(), registry, ...extra });

  it("refuses memory and vCPUs beyond the backend's limits", async () => {
    await expect(make({ ...bare, memory: { mib: 65 } })).rejects.toThrow(
      "memory.mib: expected at most 64, the limit of the fake backend, found 65",
    );
    await expect(make({ ...bare, memory: { mib: 0 } })).rejects.toThrow(
      "memory.mib: expected a whole number from 1, found 0",
    );
    await expect(make({ ...bare, vcpus: 5 })).rejects.toThrow(
      "vcpus: expected at most 4, the limit of the fake backend, found 5",
    );
  });

  it("counts the memory that devices bring, and checks it without making the machine", async () => {
    const spec = (bytes: number): DeviceEntry["spec"] => ({
      ...fakePlugin("@fake/devices/owner", () => ({})).spec,
      memoryBytes: () => bytes,
    });
    const plan = (mib: number, bytes: number): Promise<unknown> => {
      const devices = [{ spec: spec(bytes), input: {} }];
      return planMachine({ ...bare, memory: { mib }, devices }, registry, new FakeHypervisor());
    };
    await expect(plan(60, (4 << 20) + 4096)).rejects.toMatchObject({
      code: "NB_CONFIG",
      message:
        "memory.mib: expected at most 64, the limit of the fake backend, with the 5 MiB that devices bring, found 65",
    });
    await expect(plan(60, 5)).rejects.toMatchObject({ code: "NB_CONFIG", configPath: "devices[0]" });
    await expect(plan(60, 4 << 20)).resolves.toBeDefined();
  });

  it("refuses a region where there is memory, which would never answer", async () => {
    const at = (base: number): DeviceEntry =>
      fakePlugin("@fake/devices/window", (ctx) => {
        ctx.mapMmio({ base, length: 0x1000 }, { read: () => 0, write: () => undefined });
        return {};
      })();
    await expect(make({ ...bare, devices: [false as const, at(0xf_f001)] })).rejects.toMatchObject({
      code: "NB_REGION_OVERLAP",
      configPath: "devices[1]",
      message: "devices[1]: window [0xff001, 0x100001) overlaps memory: ram@0x0 [0x0, 0x100000)",
    });
    await expect(make({ ...bare, devices: [at(0x10_0000)] })).resolves.toBeDefined();
  });

  it("leaves nothing open when a device cannot be set up", async () => {
    const hypervisor = new FakeHypervisor();
    let closed = false;
    const first = fakePlugin("@fake/devices/first", (ctx) => {
      ctx.onClose(() => void (closed = true));
      return {};
    });
    const second = fakePlugin("@fake/devices/second", () => {
      throw new Error("no such disk");
    });
    await expect(make({ ...bare, devices: [first(), second()] }, { hypervisor })).rejects.toThrow(
      "no such disk",
    );
    expect([closed, hypervisor.vms[0]?.closed]).toEqual([true, 1]);
  });

  it("names the config path of a device's mistake", async () => {
    const devices = [false as const, { plugin: "debug-console", prot: 1 }];
    await expect(make({ ...bare, devices })).rejects.toMatchObject({
      code: "NB_CONFIG",
      message: 'devices[1]: unknown key "prot"; did you mean "port"?',
    });
    await expect(make({ ...bare, devices: [{ plugin: "debug-console", port: "x" }] })).rejects.toThrow(
      'devices[0].port: expected a number, found "x"',
    );
    await expect(
      make({ ...bare, devices: [{ plugin: "debug-console" }, { plugin: "debug-console" }] }),
    ).rejects.toMatchObject({
      code: "NB_REGION_OVERLAP",
      message: "devices[1]: debug-console-1 [0xe9, 0xea) overlaps debug-console [0xe9, 0xea) on the port bus",
    });
  });
});
