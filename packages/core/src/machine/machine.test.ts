import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { RingBufferBackend } from "../host/ring-buffer.ts";
import { readManifest } from "../snapshot/read-snapshot.ts";
import { fakePlugin } from "../testing/fake-devices.ts";
import { FakeHypervisor, type FakeStep } from "../testing/fake-hypervisor.ts";
import { createMachine } from "./create-machine.ts";
import {
  bare,
  PANIC,
  PAUSE,
  POWER_OFF,
  power,
  print,
  registry,
  RESET,
  run,
} from "../../test/bare-machine.ts";

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
