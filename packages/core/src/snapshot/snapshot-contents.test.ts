import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type BlockBackend,
  type ConfigSchema,
  type CpuModel,
  type DeviceReference,
  Entropy,
  type HostEndOptions,
  HostEnds,
  type Hypervisor,
  type MachineConfig,
} from "../contracts/index.ts";
import { PluginRegistry } from "../composition/plugin-registry.ts";
import { BootImages } from "../machine/boot-images.ts";
import { createMachine, type MachineOptions } from "../machine/create-machine.ts";
import type { Machine } from "../machine/machine.ts";
import { debugConsole, fakePlugin } from "../testing/fake-devices.ts";
import { FakeHypervisor } from "../testing/fake-hypervisor.ts";
import { readManifest } from "./read-snapshot.ts";

/** Config of `gadget`: what the guest sees of it, and what it has of the host. */
interface Gadget {
  readonly port: number;
  readonly gsi: number;
  readonly hid: string;
  readonly disk: HostEndOptions;
}

const disks = new Map<string, BlockBackend>();
const gadget = fakePlugin<Gadget>(
  "@fake/devices/gadget",
  async (ctx, { port, gsi, hid, disk }) => {
    const backend = await ctx.get(HostEnds).block(disk, { readOnly: false });
    ctx.onClose(() => backend.close());
    disks.set(ctx.id, backend);
    const unmap = ctx.mapPorts({ base: 0x10, length: 1 }, { read: () => 0, write: () => undefined });
    unmap();
    let moved = ctx.mapMmio({ base: 0x20_0000, length: 4 }, { read: () => 0, write: () => undefined });
    ctx.mapPorts(
      { name: `${ctx.id}.window`, base: port, length: 4 },
      {
        read: () => 0,
        write: (_offset, _width, value) => {
          moved();
          moved = ctx.mapMmio({ base: value, length: 4 }, { read: () => 0, write: () => undefined });
        },
      },
    );
    ctx.irq(gsi).set(false);
    ctx.describe({ kind: "acpiDevice", name: "GADG", hid, uid: 0 });
    return { save: () => ({ version: 1 }), restore: () => undefined };
  },
  {
    requires: [HostEnds],
    config: v.looseObject({
      port: v.optional(v.number(), 0x100),
      gsi: v.optional(v.number(), 5),
      hid: v.optional(v.string(), "ACME0001"),
      disk: v.optional(v.looseObject({ kind: v.string() }), { kind: "memory", mib: 1 }),
    }) as unknown as ConfigSchema<never, Gadget>,
  },
);
const drawn: Uint8Array[] = [];
const dice = fakePlugin("@fake/devices/dice", (ctx) => {
  const source = ctx.get(Entropy);
  const draw = (): void => {
    const bytes = new Uint8Array(21);
    source.fill(bytes);
    drawn.push(bytes);
  };
  draw();
  return {
    monitorCommand: () => {
      draw();
      return Promise.resolve("");
    },
  };
});

const registry = new PluginRegistry([debugConsole, gadget, dice]);

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-snapshot-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const make = (
  devices: NonNullable<MachineConfig["devices"]>,
  overrides: Partial<MachineConfig> = {},
  options: Partial<MachineOptions> = {},
): Promise<Machine> =>
  createMachine({
    config: { machine: "bare-1", clock: "virtual", memory: { mib: 1 }, devices, ...overrides },
    hypervisor: new FakeHypervisor(),
    registry,
    ...options,
  });

const snap = (): string => join(directory, "snap");
const save = async (machine: Machine): Promise<void> => {
  await machine.start();
  await machine.save(snap());
  await machine.stop();
};
const refusal = async (machine: Machine): Promise<string> => {
  const error: unknown = await machine.restore(snap()).catch((reason: unknown) => reason);
  await machine.stop();
  expect(error).toMatchObject({ code: "NB_RESTORE" });
  return (error as Error).message.replace(`${snap()}: cannot restore: `, "");
};

describe("a snapshot's manifest", () => {
  it("is refused where any bit of it is another", async () => {
    await save(await make([debugConsole()]));
    const path = join(snap(), "manifest.json");
    const whole = await readFile(path);
    expect(await readManifest(snap())).toMatchObject({ format: "northbridge-snapshot", version: 2 });
    for (let at = 0; at < whole.length; at += 7) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ (1 << (at % 8));
      await writeFile(path, damaged);
      await expect(readManifest(snap())).rejects.toMatchObject({ code: "NB_RESTORE" });
    }
    await writeFile(path, whole.toString().replace('"count": 0', '"count": 1'));
    expect(await refusal(await make([debugConsole()]))).toBe(
      "manifest.json is damaged: it is not what manifest.sha256 says",
    );
    await rm(join(snap(), "manifest.sha256"));
    expect(await refusal(await make([debugConsole()]))).toBe("there is no manifest.sha256 in it");
  });

  const check = spawnSync("sha256sum", ["--version"]).status === 0;
  it.skipIf(!check)("passes the check of sha256sum (needs the program)", async () => {
    await save(await make([debugConsole()]));
    const { status, stdout } = spawnSync("sha256sum", ["--check", "manifest.sha256"], {
      cwd: snap(),
      encoding: "utf8",
    });
    expect([status, stdout]).toEqual([0, "manifest.json: OK\n"]);
  });

  it("has no config where that holds what is no data, and the machine is saved all the same", async () => {
    const circle: Record<string, unknown> = { kind: "memory", mib: 1 };
    circle["self"] = circle;
    for (const live of [circle, () => 0, new Uint8Array(3), Number.NaN, Symbol("x")]) {
      const devices = [debugConsole(), fakePlugin("@fake/devices/live", () => ({}))({ live })];
      await save(await make(devices));
      expect((await readManifest(snap())).config).toBeUndefined();
      const again = await make(devices);
      await again.restore(snap());
      await again.stop();
      await rm(snap(), { recursive: true });
    }
  });
});

describe("a saved guest", () => {
  it("goes on where it finds its devices, whatever they have of the host", async () => {
    await writeFile(join(directory, "disk.img"), new Uint8Array(1 << 20));
    await writeFile(join(directory, "moved.img"), new Uint8Array(1 << 20));
    const on = (path: string): DeviceReference => ({
      plugin: "gadget",
      disk: { kind: "file", path: join(directory, path) },
    });
    const first = await make([on("disk.img")]);
    await first.start();
    await first.save(snap());
    await first.stop();
    const again = await make([on("moved.img")]);
    await again.restore(snap());
    await again.stop();
    for (const [option, ours, theirs] of [
      [{ gsi: 6 }, "GSI 6", "GSI 5"],
      [{ port: 0x200 }, "ports gadget.window [0x200, 0x204)", "ports gadget.window [0x100, 0x104)"],
      [
        { hid: "ACME0002" },
        '{"hid":"ACME0002","kind":"acpiDevice","name":"GADG","uid":0}',
        '{"hid":"ACME0001","kind":"acpiDevice","name":"GADG","uid":0}',
      ],
    ] as const) {
      expect(await refusal(await make([{ ...on("disk.img"), ...option }]))).toBe(
        `device gadget: this machine has ${ours}, the saved one ${theirs}`,
      );
    }
  });

  it("has its disks in memory with it", async () => {
    const first = await make([gadget()]);
    await disks.get("gadget")?.write(512, [new Uint8Array(512).fill(7)]);
    await disks.get("gadget")?.write((1 << 20) - 512, [new Uint8Array(512).fill(8)]);
    await save(first);
    const again = await make([gadget()]);
    await again.restore(snap());
    const bytes = new Uint8Array(1 << 20);
    await disks.get("gadget")?.read(0, [bytes]);
    expect([bytes[511], bytes[512], bytes[1023], bytes[1024], bytes.at(-513), bytes.at(-1)]).toEqual([
      0, 7, 7, 0, 0, 8,
    ]);
    await again.stop();

    const larger = gadget({ disk: { kind: "memory", mib: 2 } });
    expect(await refusal(await make([larger]))).toBe(
      "disks in memory: this machine has gadget.memory of 2097152 bytes, the saved one gadget.memory of 1048576 bytes",
    );
    await writeFile(join(directory, "disk.img"), new Uint8Array(1 << 20));
    const onFile = gadget({ disk: { kind: "file", path: join(directory, "disk.img") } });
    expect(await refusal(await make([onFile]))).toMatch(
      /this machine has none, the saved one gadget\.memory of/,
    );

    const pages = await readFile(join(snap(), "ram.pages"));
    pages[pages.length - 1] = 9;
    await writeFile(join(snap(), "ram.pages"), pages);
    const machine = await make([gadget()]);
    await expect(machine.restore(snap())).rejects.toThrow(
      "ram.pages is damaged: wrong checksum at byte 4096",
    );
    await disks.get("gadget")?.read(0, [bytes]);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    await machine.stop();
  });

  it("draws the random bytes that come next, under a virtual clock", async () => {
    const draw = async (machine: Machine): Promise<void> => {
      await machine.devices[0]?.device.monitorCommand?.([]);
    };
    drawn.length = 0;
    const first = await make([dice()]);
    for (let i = 0; i < 5; i++) await draw(first);
    await first.start();
    await first.save(snap());
    for (let i = 0; i < 3; i++) await draw(first);
    await first.stop();
    const then = drawn.splice(0).slice(6);
    const again = await make([dice()]);
    await again.restore(snap());
    drawn.length = 0;
    for (let i = 0; i < 3; i++) await draw(again);
    await again.stop();
    expect(drawn).toEqual(then);
  });

  it("goes on on a processor of the same vendor, with no fewer physical address bits", async () => {
    const word = (text: string): number => Buffer.from(text).readUInt32LE();
    const cpu = (vendor: readonly [string, string, string], physicalBits?: number): CpuModel => {
      const [ebx, edx, ecx] = vendor.map(word) as [number, number, number];
      const width = { leaf: 0x8000_0008, eax: 0x3000 | (physicalBits ?? 0), ebx: 0, ecx: 0, edx: 0 };
      const leaves = [{ leaf: 0, eax: 0x10, ebx, ecx, edx }, ...(physicalBits === undefined ? [] : [width])];
      return { name: "played", leaves };
    };
    const hypervisorOf = (cpuModel: CpuModel): Hypervisor => {
      const fake = new FakeHypervisor();
      return {
        name: "fake",
        createVm: async (options) => Object.assign(await fake.createVm(options), { cpuModel }),
      };
    };
    const [intel, amd] = [["Genu", "ineI", "ntel"] as const, ["Auth", "enti", "cAMD"] as const];
    const create = (cpuModel: CpuModel): Promise<Machine> =>
      make([], {}, { hypervisor: hypervisorOf(cpuModel) });
    await save(await create(cpu(intel, 40)));
    const known = "cpu: the saved guest knows its processor as played; this machine's (fake, played)";
    expect(await refusal(await create(cpu(intel, 39)))).toBe(`${known} has 39 physical address bits, not 40`);
    // Without the leaf there are 36 (SDM 3A §4.1.4).
    expect(await refusal(await create(cpu(intel)))).toBe(`${known} has 36 physical address bits, not 40`);
    expect(await refusal(await create(cpu(amd, 48)))).toBe(
      `${known} is of AuthenticAMD, not of GenuineIntel`,
    );
    for (const bits of [40, 46]) {
      const machine = await create(cpu(intel, bits));
      await machine.restore(snap());
      await machine.stop();
    }
  });

  it("has its images in one order, whichever was read first", async () => {
    const [kernel, initrd] = [join(directory, "kernel"), join(directory, "initrd")];
    await writeFile(kernel, "kernel 1");
    await writeFile(initrd, "initrd");
    const saved: unknown[] = [];
    for (const order of [
      [kernel, initrd],
      [initrd, kernel],
    ]) {
      const images = new BootImages({ kernel, initrd });
      for (const path of order) await images.read(path);
      images.booted();
      saved.push(images.save());
    }
    expect(saved[0]).toMatchObject([{ name: "initrd", bytes: 6 }, { name: "kernel" }]);
    expect(saved[1]).toEqual(saved[0]);
  });

  it("has the content of an image once for all machines of a process", async () => {
    const [one, other] = [join(directory, "one"), join(directory, "other")];
    await writeFile(one, "kernel 1");
    await writeFile(other, "kernel 1");
    const read = (kernel: string): Promise<Uint8Array> => new BootImages({ kernel }).read(kernel);
    const first = await read(one);
    expect(await read(one)).toBe(first);
    expect(await read(other)).toBe(first);
    await writeFile(other, "kernel 2");
    expect(new TextDecoder().decode(await read(other))).toBe("kernel 2");
  });

  it("boots from the images that it has booted from, and from no others", async () => {
    const [kernel, moved] = [join(directory, "kernel"), join(directory, "moved")];
    await writeFile(kernel, "kernel 1");
    await writeFile(moved, "kernel 1");
    const loaded: Uint8Array[] = [];
    const bootLoader: MachineOptions["bootLoader"] = async ({ boot, readFile: read }) => {
      loaded.push(await read(boot.kernel ?? ""));
      return {};
    };
    const create = (path: string): Promise<Machine> => make([], { boot: { kernel: path } }, { bootLoader });
    await save(await create(kernel));

    const here = await create(kernel);
    await here.start();
    here.power.reset();
    await expect.poll(() => here.stats().resets).toBe(1);
    // A host's upgrade: in place, or by another file of that name.
    await writeFile(kernel, "kernel 22");
    here.power.reset();
    await expect.poll(() => here.stats().resets).toBe(2);
    await rm(kernel);
    here.power.reset();
    await expect.poll(() => here.stats().resets).toBe(3);
    expect(new TextDecoder().decode(loaded.at(-1))).toBe("kernel 1");
    await here.stop();
    await writeFile(kernel, "kernel 22");

    const elsewhere = await create(moved);
    await elsewhere.restore(snap());
    await elsewhere.start();
    elsewhere.power.reset();
    await expect.poll(() => elsewhere.stats().resets).toBe(1);
    await elsewhere.stop();
    const other = await create(kernel);
    await other.restore(snap());
    await other.start();
    other.power.reset();
    expect(await other.stopped).toEqual({
      kind: "error",
      detail: `${kernel}: expected the image that this guest has booted from before, 8 bytes of CRC-32 d8aa74cd, found 9 bytes of CRC-32 d4f5f9b7`,
    });
  });
});
