import { createHash } from "node:crypto";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { MachineConfig } from "../contracts/index.ts";
import { PluginRegistry } from "../composition/plugin-registry.ts";
import { RingBufferBackend } from "../host/ring-buffer.ts";
import { createMachine } from "../machine/create-machine.ts";
import type { Machine } from "../machine/machine.ts";
import { debugConsole, fakePlugin } from "../testing/fake-devices.ts";
import { FakeHypervisor, type FakeStep } from "../testing/fake-hypervisor.ts";

const PAGE = 4096;
const registry = new PluginRegistry([debugConsole]);
const config: MachineConfig = {
  name: "saved",
  machine: "bare-1",
  clock: "virtual",
  memory: { mib: 4 },
  vcpus: 2,
  devices: [{ plugin: "debug-console" }],
};

/** Prints a–z, one letter a step. */
const alphabet: FakeStep[] = Array.from({ length: 26 }, (_, i) => (_vm, { ports }) => {
  ports.write(0xe9, 1, 0x61 + i);
  return undefined;
});

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-snapshot-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const make = async (
  overrides: Partial<MachineConfig> = {},
): Promise<{ machine: Machine; console: RingBufferBackend; hypervisor: FakeHypervisor }> => {
  const hypervisor = new FakeHypervisor(alphabet);
  const console = new RingBufferBackend();
  const machine = await createMachine({ config: { ...config, ...overrides }, hypervisor, registry, console });
  return { machine, console, hypervisor };
};

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((done) => setImmediate(done));
};

/** Puts another manifest into a snapshot, with a digest that fits. */
const writeManifest = async (to: string, text: string): Promise<void> => {
  await writeFile(join(to, "manifest.json"), text);
  await writeFile(join(to, "manifest.sha256"), `${sha256(text)}  manifest.json\n`);
};
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

/** Saves a machine in the middle of the alphabet, with a few pages of memory in use. */
const saved = async (to: string): Promise<{ printed: string }> => {
  const { machine, console, hypervisor } = await make();
  await machine.start();
  await until(() => console.text().length >= 5);
  await machine.pause();
  machine.clock.skipTo(123_456_789);
  machine.memory.write(0x1ffe, Uint8Array.of(1, 2, 3, 4));
  machine.memory.write(700 * PAGE, new Uint8Array(300 * PAGE).fill(0xa5));
  if (hypervisor.vms[0]) hypervisor.vms[0].irqchipState = 42;
  await machine.save(to);
  const printed = console.text();
  await machine.stop();
  return { printed };
};

describe("a saved machine", () => {
  it("goes on where it was in another machine", async () => {
    const to = join(directory, "deep", "er", "snap");
    const { printed } = await saved(to);
    const { machine, console, hypervisor } = await make();
    await machine.restore(to);
    expect(machine.clock.nowNs()).toBe(123_456_789);
    expect(machine.memory.readU32(0x1ffe)).toBe(0x0403_0201);
    expect(machine.memory.readU8(999 * PAGE + 4095)).toBe(0xa5);
    expect(machine.memory.readU8(1000 * PAGE)).toBe(0);
    expect(hypervisor.vms[0]?.irqchipState).toBe(42);
    expect(machine.stats().devices["debug-console"]).toEqual({ bytes: printed.length });
    await machine.start();
    await until(() => printed.length + console.text().length === 26);
    await machine.stop();
    expect(printed + console.text()).toBe("abcdefghijklmnopqrstuvwxyz");
  });

  it("is sparse on disk and reported to the backend when loaded", async () => {
    const to = join(directory, "snap");
    await saved(to);
    expect((await stat(join(to, "ram.pages"))).size).toBe(302 * PAGE);
    const { machine, hypervisor } = await make();
    await machine.restore(to);
    expect(hypervisor.vms[0]?.written).toEqual([
      [PAGE, 2 * PAGE],
      [700 * PAGE, 256 * PAGE],
      [956 * PAGE, 44 * PAGE],
    ]);
    await machine.stop();
  });

  it("may be saved while it runs, and runs on", async () => {
    const { machine, console } = await make();
    await machine.start();
    await machine.save(join(directory, "snap"));
    expect(machine.state).toBe("running");
    await until(() => console.text().length === 26);
    await machine.stop();
  });

  it("is not written where a device's state is none, which is named; the machine goes on", async () => {
    const [counter, to] = [new Map([[1, 2]]), join(directory, "deep", "snap")];
    const odd = fakePlugin("@fake/devices/odd", () => ({
      save: () => ({ timers: [{ counter }] }),
      restore: () => undefined,
    }));
    const { machine, console } = await make({ devices: [debugConsole(), odd({}, { id: "gadget" })] });
    await machine.start();
    await expect(machine.save(to)).rejects.toMatchObject({
      code: "NB_SNAPSHOT",
      message: `${to}: cannot save the machine: device gadget: save: expected a state that JSON holds, found that state.timers[0].counter is a Map`,
    });
    expect(await readdir(directory)).toEqual([]);
    await until(() => console.text().length === 26);
    await machine.stop();
  });

  it("carries the config without its module", async () => {
    const to = join(directory, "snap");
    const { machine } = await make({ devices: [debugConsole({ port: 0x80 }, { id: "out" }), null] });
    await machine.start();
    await machine.save(to);
    await machine.stop();
    const manifest = JSON.parse(await readFile(join(to, "manifest.json"), "utf8")) as {
      config: MachineConfig;
    };
    expect(manifest.config).toEqual({
      ...config,
      devices: [{ plugin: "@fake/devices/debug-console", id: "out", port: 0x80 }, null],
    });
    const again = await createMachine({
      config: manifest.config,
      hypervisor: new FakeHypervisor(),
      registry,
    });
    await again.restore(to);
    await again.stop();
  });
});

describe("saving", () => {
  it("leaves nothing behind where a device fails", async () => {
    const failing = fakePlugin("@fake/devices/failing", () => ({
      save: () => {
        throw new Error("cannot be saved");
      },
      restore: () => undefined,
    }));
    const { machine } = await make({ devices: [failing()] });
    await machine.start();
    const to = join(directory, "deep", "er", "snap");
    const refusal = {
      code: "NB_SNAPSHOT",
      message: `${to}: cannot save the machine: device failing: save: cannot be saved`,
    };
    await expect(machine.save(to)).rejects.toMatchObject(refusal);
    expect([await readdir(directory), machine.state]).toEqual([[], "running"]);
    await machine.pause();
    await mkdir(join(directory, "deep"));
    await expect(machine.save(to)).rejects.toMatchObject(refusal);
    expect([await readdir(directory), await readdir(join(directory, "deep"))]).toEqual([["deep"], []]);
    expect(machine.state).toBe("paused");
    await machine.stop();
  });

  it("never overwrites", async () => {
    await writeFile(join(directory, "mine"), "x");
    const { machine } = await make();
    await machine.start();
    await expect(machine.save(directory)).rejects.toThrow(/expected a new or empty directory/);
    expect(await readdir(directory)).toEqual(["mine"]);
    await mkdir(join(directory, "empty"));
    await machine.save(join(directory, "empty"));
    await machine.stop();
  });

  it.skipIf(process.getuid?.() === 0)(
    "says so where the directory is read-only (needs a user who is not root)",
    async () => {
      await chmod(directory, 0o500);
      const { machine } = await make();
      await machine.start();
      await expect(machine.save(join(directory, "snap"))).rejects.toMatchObject({ code: "NB_SNAPSHOT" });
      await machine.stop();
      await chmod(directory, 0o700);
    },
  );
});

describe("restoring", () => {
  interface Editable {
    format: string;
    version: number;
    machineType: string;
    devices: { id: string; plugin: string; state?: unknown }[];
    memory: { slots: { runs: number[][]; length: number }[] };
    vcpus: unknown[];
  }

  const refused = async (
    edit: (manifest: Editable) => void,
    overrides: Partial<MachineConfig> = {},
  ): Promise<unknown> => {
    const to = join(directory, "snap");
    await saved(to);
    const path = join(to, "manifest.json");
    const manifest = JSON.parse(await readFile(path, "utf8")) as Editable;
    edit(manifest);
    await writeManifest(to, JSON.stringify(manifest));
    const { machine } = await make(overrides);
    const error: unknown = await machine.restore(to).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    await machine.stop();
    await rm(to, { recursive: true });
    expect(error).toMatchObject({ code: "NB_RESTORE" });
    return (error as Error).message.replace(`${to}: cannot restore: `, "");
  };

  it("refuses what is foreign, newer or damaged, by name", async () => {
    expect(await refused((m) => (m.format = "qemu"))).toBe(
      'expected the format "northbridge-snapshot", found "qemu"',
    );
    expect(await refused((m) => (m.version = 3))).toBe(
      "expected version 2 of the format, found 3; a newer Northbridge wrote it",
    );
    expect(await refused((m) => (m.version = 1))).toBe(
      "expected version 2 of the format, found 1; an older Northbridge wrote it",
    );
    expect(await refused((m) => (m.devices = "x" as never))).toMatch(
      /^manifest\.json is damaged at devices: /,
    );
    expect(await refused((m) => (m.vcpus[1] = { version: 9 }))).toMatch(
      /^manifest\.json is damaged at vcpus\.1\.version: /,
    );
    expect(await refused((m) => m.memory.slots[0]?.runs.pop())).toBe(
      `expected ${258 * PAGE} bytes in ram.pages, found ${302 * PAGE}`,
    );
    expect(await refused((m) => (m.memory.slots[0]!.runs[0]![0] = 2000))).toBe(
      "manifest.json has pages beyond the end of ram@0x0",
    );
    expect(await refused((m) => (m.memory.slots[0]!.runs[1]![2] = 7))).toBe(
      `ram.pages is damaged: wrong checksum at byte ${2 * PAGE}`,
    );
  });

  it("refuses a machine of another shape", async () => {
    const none = (): undefined => undefined;
    expect(await refused(none, { vcpus: 1 })).toBe("vcpus: this machine has 1, the saved one 2");
    expect(await refused(none, { clock: "realtime" })).toBe(
      "clock: this machine has realtime, the saved one virtual",
    );
    expect(await refused(none, { memory: { mib: 8 } })).toBe(
      "memory: this machine has 8192 KiB at 0x0, the saved one 4096 KiB at 0x0",
    );
    expect(await refused(none, { devices: [] })).toMatch(
      /^the saved machine has a device debug-console .*, this one has none$/,
    );
    expect(await refused(none, { devices: [debugConsole(), debugConsole({ port: 1 })] })).toMatch(
      /^this machine has a device debug-console-1 .*, the saved one has none$/,
    );
    expect(await refused((m) => (m.devices[0]!.plugin = "other"))).toBe(
      "device debug-console: this machine has @fake/devices/debug-console, the saved one other",
    );
    expect(await refused((m) => delete m.devices[0]!.state)).toMatch(/has no saved state$/);
    expect(await refused((m) => (m.machineType = "pc-9"))).toBe(
      "machine: this machine has bare-1, the saved one pc-9",
    );
  });

  it("takes everything back where a page is damaged or a device refuses", async () => {
    const to = join(directory, "snap");
    await saved(to);
    const path = join(to, "manifest.json");
    const whole = await readFile(path, "utf8");
    const { machine, console, hypervisor } = await make();
    const asMade = (): void => {
      expect(machine.clock.nowNs()).toBe(0);
      expect(machine.memory.readU32(0x1ffe)).toBe(0);
      expect(machine.memory.view(700 * PAGE, 300 * PAGE)?.every((byte) => byte === 0)).toBe(true);
      expect(hypervisor.vms[0]?.irqchipState).toBe(0);
      expect(machine.stats().devices["debug-console"]).toEqual({ bytes: 0 });
    };
    const edit = async (change: (manifest: Editable) => void): Promise<void> => {
      const manifest = JSON.parse(whole) as Editable;
      change(manifest);
      await writeManifest(to, JSON.stringify(manifest));
    };

    await edit((m) => (m.memory.slots[0]!.runs[2]![2] = 7));
    await expect(machine.restore(to)).rejects.toThrow(/wrong checksum/);
    asMade();
    await edit((m) => (m.devices[0]!.state = null));
    await expect(machine.restore(to)).rejects.toMatchObject({
      code: "NB_RESTORE",
      message: expect.stringContaining("device debug-console: restore: "),
    });
    asMade();

    await writeManifest(to, whole);
    await machine.restore(to);
    expect(machine.memory.readU32(0x1ffe)).toBe(0x0403_0201);
    await machine.start();
    await until(() => console.text().endsWith("z"));
    await machine.stop();
  });

  it("takes a machine as it was made, and no other", async () => {
    const to = join(directory, "snap");
    await saved(to);
    const { machine } = await make();
    await machine.restore(to);
    const refusal = {
      code: "NB_LIFECYCLE",
      message: "restoring needs a machine as it was made, not one that has been restored: make another",
    };
    await expect(machine.restore(to)).rejects.toMatchObject(refusal);
    await expect(machine.restore(join(directory, "none"))).rejects.toMatchObject(refusal);
    expect(machine.memory.readU32(0x1ffe)).toBe(0x0403_0201);
    await machine.stop();

    const half = await createMachine({
      config: { ...config, boot: { kernel: "/nowhere" } },
      hypervisor: new FakeHypervisor(),
      registry,
      bootLoader: ({ memory }) => {
        memory.writeU8(0x5000, 1);
        throw new Error("no initrd");
      },
    });
    await expect(half.start()).rejects.toThrow("no initrd");
    await expect(half.restore(to)).rejects.toMatchObject({ message: expect.stringContaining("been booted") });
    await half.stop();
  });

  it("is the machine's end where what was loaded cannot be taken back", async () => {
    const boom = (): never => {
      throw new Error("boom");
    };
    const gadget = (restores: boolean): NonNullable<MachineConfig["devices"]> => [
      fakePlugin("@fake/devices/gadget", () => ({
        save: () => ({ version: 1 }),
        restore: restores ? () => undefined : boom,
        reset: restores ? () => undefined : boom,
      }))(),
    ];
    const { machine: first } = await make({ devices: gadget(true) });
    await first.start();
    await first.save(join(directory, "snap"));
    await first.stop();
    const { machine } = await make({ devices: gadget(false) });
    await expect(machine.restore(join(directory, "snap"))).rejects.toThrow("device gadget: reset: boom");
    expect(await machine.stopped).toEqual({ kind: "error", detail: "device gadget: reset: boom" });
  });

  it("refuses what is no snapshot", async () => {
    const { machine } = await make();
    await expect(machine.restore(directory)).rejects.toThrow(/there is no manifest\.json in it/);
    await writeFile(join(directory, "manifest.json"), "{");
    await expect(machine.restore(directory)).rejects.toThrow(/manifest\.json is not JSON/);
    await machine.stop();
  });

  it("finds bytes flipped and cut off", async () => {
    const to = join(directory, "snap");
    await saved(to);
    const damaged = join(directory, "damaged");
    await cp(to, damaged, { recursive: true });
    const pages = await readFile(join(damaged, "ram.pages"));
    pages[pages.length - 1] = (pages.at(-1) ?? 0) ^ 1;
    await writeFile(join(damaged, "ram.pages"), pages);
    const { machine } = await make();
    await expect(machine.restore(damaged)).rejects.toThrow(/wrong checksum/);
    await writeFile(join(damaged, "ram.pages"), pages.subarray(0, -1));
    await expect(machine.restore(damaged)).rejects.toThrow(/expected 1236992 bytes/);
    await machine.stop();
  });
});
