import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtempDisposable, readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeHypervisor } from "@northbridge/core/testing";
import { openImage } from "@northbridge/storage-qcow2";
import { describe, expect, it } from "vitest";
import { builtInRegistry } from "../built-in-registry.ts";
import { CliHarness } from "../testing/cli-harness.ts";

const DEVICES = `
  const any = { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } };
  const device = (setup, input = {}) => ({ spec: { name: "@x/devices/gadget", config: any, setup }, input });
  const at = (base, length = 16) =>
    device((ctx) => { ctx.mapMmio({ base, length }, { read: () => 0, write: () => undefined }); return {}; });
  const ports = (base) =>
    device((ctx) => { ctx.mapPorts({ base, length: 8 }, { read: () => 0, write: () => undefined }); return {}; });
`;

const validated = async (
  name: string,
  text: string,
  prepare?: (directory: string) => Promise<unknown>,
): Promise<{ readonly run: string; readonly validate: string; readonly codes: readonly number[] }> => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-validate-"));
  await prepare?.(directory.path);
  const file = join(directory.path, name);
  await writeFile(file, text);
  const cli = (command: string) =>
    new CliHarness(new FakeHypervisor([]), { registry: builtInRegistry() }).run(command, file);
  const run = await cli("run");
  const validate = await cli("validate");
  const short = (text: string): string => text.replaceAll(`${directory.path}/`, "");
  return { run: short(run.err), validate: short(validate.err), codes: [run.code, validate.code] };
};

describe("northbridge validate refuses what run refuses, in the same words", () => {
  const module = (devices: string, machine = "bare-1"): string =>
    `${DEVICES} export default { machine: "${machine}", memory: { mib: 1 }, devices: [${devices}] };`;

  it.each<[what: string, devices: string, machine: string, message: string]>([
    [
      "ranges that overlap",
      "at(0xfe800000), at(0xfe800008)",
      "bare-1",
      "machine.mjs: devices[1]: gadget-1 [0xfe800008, 0xfe800018) overlaps gadget [0xfe800000, 0xfe800010) on the MMIO bus",
    ],
    [
      "a range on a device of the machine's own",
      "ports(0x3f8)",
      "pc-1",
      "machine.mjs: devices[0]: gadget [0x3f8, 0x400) overlaps com1 [0x3f8, 0x400) on the port bus",
    ],
    [
      "a range that is none",
      "ports(0xffff)",
      "bare-1",
      "machine.mjs: devices[0]: gadget [0xffff, 0x10007) is not a range of the port bus, whose addresses are [0x0, 0x10000)",
    ],
    [
      "a service that nobody provides",
      'device((ctx) => ctx.get(Symbol.for("northbridge:pci")))',
      "bare-1",
      'machine.mjs: devices[0]: device gadget (@x/devices/gadget) requires "pci", which nobody provides',
    ],
    [
      "a device that throws",
      'device(() => { throw new RangeError("too far"); })',
      "bare-1",
      "machine.mjs: devices[0]: device gadget: setup: too far",
    ],
  ])("%s", async (_what, devices, machine, message) => {
    const { run, validate, codes } = await validated("machine.mjs", module(devices, machine));
    expect(validate).toBe(run);
    expect(validate).toBe(`northbridge: ${message}\n`);
    expect(codes[1]).toBe(codes[0]);
  });

  const yaml = (...devices: readonly string[]): string =>
    ["memory: { mib: 4 }", "devices:", ...devices.map((device) => `  - ${device}`), ""].join("\n");

  it("two cards in one slot, by their lines", async () => {
    const rng = "{ plugin: virtioRng, slot: 3 }";
    const { run, validate, codes } = await validated("machine.yaml", yaml(rng, rng));
    expect(validate).toBe(run);
    expect(validate).toBe(
      "northbridge: machine.yaml:4:5: devices[1]: virtioRng-1: PCI slot 03.0 is taken by virtioRng\n",
    );
    expect(codes).toEqual([2, 2]);
    // A run misses the back end, which a check leaves alone.
    const front = await validated("machine.yaml", yaml(rng, "{ plugin: vhostUserBlk, path: none, slot: 3 }"));
    expect(front.validate).toContain("machine.yaml:4:5: devices[1]: vhostUserBlk: PCI slot 03.0 is taken");
  });

  it("registers between two pages", async () => {
    const { run, validate, codes } = await validated(
      "machine.yaml",
      yaml("{ plugin: virtioRng, mmio: { gpa: 0xfeb00800, gsi: 5 } }"),
    );
    expect(validate).toBe(run);
    expect(validate).toMatch(/devices\[0\]\.mmio\.gpa: expected a multiple of 0x1000, found 0xfeb00800\n$/);
    expect(codes).toEqual([2, 2]);
  });

  it("persistent memory that is not its file's size, also behind others", async () => {
    const file =
      "{ kind: faulty, disk: { kind: throttled, requestsPerSec: 5, disk: { kind: file, path: pmem.img } } }";
    const { run, validate, codes } = await validated(
      "machine.yaml",
      yaml(`{ plugin: virtioPmem, file: ${file}, mib: 4 }`),
      (directory) => writeFile(join(directory, "pmem.img"), new Uint8Array(2 << 20)),
    );
    expect(validate).toBe(run);
    expect(validate).toContain("file: expected 4 MiB, found 2097152 bytes");
    expect(codes).toEqual([2, 2]);
  });

  it("a disk under another that is no image", async () => {
    const disk = "{ kind: faulty, disk: { kind: qcow2, path: raw.img } }";
    const { run, validate, codes } = await validated(
      "machine.yaml",
      yaml(`{ plugin: virtioBlk, disk: ${disk} }`),
      (directory) => writeFile(join(directory, "raw.img"), new Uint8Array(65_536)),
    );
    expect(validate).toBe(run);
    expect(validate).toMatch(/machine\.yaml:3:\d+: devices\[0\]\.disk\.disk: raw\.img: .*qcow2/);
    expect(codes).toEqual([2, 2]);
  });
});

it("northbridge validate changes nothing of the host, and nobody notices", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-validate-"));
  const path = (name: string): string => join(directory.path, name);
  let clients = 0;
  await using server = createServer(() => (clients += 1)).listen(path("server.sock"));
  await once(server, "listening");
  const harness = new CliHarness(new FakeHypervisor([]), { registry: builtInRegistry() });
  expect(await harness.run("img", "create", "-f", "qcow2", path("disk.qcow2"), "1M")).toMatchObject({
    code: 0,
  });
  const image = openImage(path("disk.qcow2"), { format: "qcow2" });
  await writeFile(path("disk.img"), new Uint8Array(2 << 20));
  await writeFile(path("output.txt"), "earlier");
  const before = await Promise.all(["disk.img", "disk.qcow2"].map((name) => stat(path(name))));
  const ends = [
    { plugin: "virtioBlk", disk: { kind: "file", path: "disk.img" } },
    // Open for writing here: its lock keeps a run out, not a check.
    {
      plugin: "virtioBlk",
      disk: { kind: "throttled", requestsPerSec: 5, disk: { kind: "qcow2", path: "disk.qcow2" } },
    },
    { plugin: "virtioBlk", disk: { kind: "nbd", path: "server.sock" } },
    { plugin: "virtioPmem", file: { kind: "file", path: "disk.img" }, mib: 2 },
    // Of whatever size the server's is.
    { plugin: "virtioPmem", file: { kind: "nbd", path: "server.sock" }, mib: 2 },
    {
      plugin: "virtioPmem",
      file: { kind: "faulty", disk: { kind: "nbd", path: "server.sock" } },
      mib: 2,
    },
    { plugin: "virtioConsole", to: { kind: "file", path: "output.txt" } },
    { plugin: "virtioConsole", to: { kind: "file", path: "new.txt" } },
    { plugin: "virtioConsole", to: { kind: "socket", path: "server.sock" } },
    { plugin: "virtioVsock", cid: 3, to: { kind: "unix", path: "vsock.sock" } },
    { plugin: "virtioFs", tag: "t", directory: { kind: "directory", path: "." } },
    { plugin: "virtioNet", link: { kind: "stream", path: "server.sock" } },
    { plugin: "virtioNet", link: { kind: "capture", path: "net.pcapng", link: { kind: "tap" } } },
    { plugin: "virtioNet", link: { kind: "switch", path: "lan.sock", uplink: { kind: "user" } } },
    { plugin: "vhostUserBlk", path: "server.sock" },
    { plugin: "vhostUserFs", path: "server.sock", tag: "u" },
    { plugin: "vhostUserNet", path: "server.sock" },
    { plugin: "vhostNet" },
  ];
  await writeFile(path("machine.json"), JSON.stringify({ memory: { mib: 16 }, devices: ends }));
  expect(await harness.run("validate", path("machine.json"))).toEqual({
    code: 0,
    out: `${path("machine.json")}: ok\n`,
    err: "",
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(clients).toBe(0);
  expect(await readFile(path("output.txt"), "utf8")).toBe("earlier");
  for (const name of ["new.txt", "net.pcapng", "vsock.sock", "lan.sock"])
    expect(existsSync(path(name)), name).toBe(false);
  const after = await Promise.all(["disk.img", "disk.qcow2"].map((name) => stat(path(name))));
  expect(after.map(({ mtimeMs }) => mtimeMs)).toEqual(before.map(({ mtimeMs }) => mtimeMs));
  await image.close();
});
