import { existsSync } from "node:fs";
import { mkdtempDisposable, mkdir, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeHypervisor } from "@northbridge/core/testing";
import { describe, expect, it } from "vitest";
import { builtInRegistry } from "./built-in-registry.ts";
import { CliHarness } from "./testing/cli-harness.ts";

/** A file of 4096 bytes. */
const READ_ONLY = "/sys/kernel/uevent_seqnum";
const mmio = { gpa: 0xfeb0_0000, gsi: 5 };
const disk = (path: string, options: object = {}): object => ({
  plugin: "virtioBlk",
  disk: { kind: "file", path },
  mmio,
  ...options,
});

/** What makes the device: the machine that has it, the check of that machine, or a vhost-user back end. */
type Maker = "run" | "validate" | "vhost-user";

/** Makes a device in a directory that has files of all sorts, and a socket at which somebody listens. */
async function makeWith(
  maker: Maker,
  device: object,
): Promise<{ readonly code: number; readonly err: string }> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-missing-"));
  const path = (name: string): string => join(directory.path, name);
  await writeFile(path("empty.img"), "");
  await writeFile(path("odd.img"), new Uint8Array(1000));
  await writeFile(path("odd-sectors.img"), new Uint8Array(3 * 512));
  await writeFile(path("half.img"), new Uint8Array(2048));
  await writeFile(path("ro.img"), new Uint8Array(512), { mode: 0o400 });
  await mkdir(path("dir"));
  await using listening = createServer().listen(path("taken.sock"));
  await once(listening, "listening");
  const rng = { plugin: "virtioRng", mmio: { gpa: 0xfea0_0000, gsi: 6 } };
  const devices = [rng, { id: "device", ...device }];
  const config = { machine: "bare-1", memory: { mib: 1 }, devices };
  await writeFile(path("machine.json"), JSON.stringify(config));
  const harness = new CliHarness(new FakeHypervisor(), { registry: builtInRegistry() });
  return maker !== "vhost-user"
    ? await harness.run(maker, path("machine.json"))
    : await harness.run(
        "vhost-user",
        "device",
        "--machine",
        path("machine.json"),
        "--socket",
        path("new.sock"),
      );
}

const makers: readonly Maker[] =
  process.platform === "linux" ? ["run", "validate", "vhost-user"] : ["run", "validate"];

describe.each(makers)(
  "%s: a host's file that cannot be used is one line with its path, and exit code 2",
  (maker) => {
    it.each<[string, object, RegExp]>([
      [
        "a missing image",
        disk("none.img"),
        /devices\[1\]\.disk: .*none\.img: cannot open for writing: there is no such file/,
      ],
      [
        "an empty image",
        disk("empty.img"),
        /devices\[1\]\.disk: .*empty\.img: 0 bytes, expected a multiple of 512/,
      ],
      [
        "an odd image",
        disk("odd.img"),
        /devices\[1\]\.disk: .*odd\.img: 1000 bytes, expected a multiple of 512/,
      ],
      ["a directory as an image", disk("dir"), /devices\[1\]\.disk: .*dir: .*directory/],
      [
        "an image of half a block",
        disk("half.img", { topology: { blockSize: 4096 } }),
        /devices\[1\]: topology\.blockSize: expected a divisor of the disk's 2048, found 4096/,
      ],
      [
        "an image shorter than the memory it fills",
        { plugin: "virtioPmem", file: { kind: "file", path: "half.img" }, mib: 2, mmio },
        /devices\[1\]: file: expected 2 MiB, found 2048 bytes/,
      ],
      [
        "an odd count of sectors",
        disk("odd-sectors.img", { topology: { blockSize: 1024 } }),
        /devices\[1\]: topology\.blockSize: expected a divisor of the disk's 1536, found 1024/,
      ],
      [
        "a MAC of a group",
        { plugin: "virtioNet", link: { kind: "loopback" }, mac: "01:00:5e:00:00:01", mmio },
        /devices\[1\]\.mac: expected a unicast MAC address/,
      ],
      [
        "a disk of a SCSI target that is missing",
        { plugin: "virtioScsi", targets: [{ disk: { kind: "file", path: "none.img" } }], mmio },
        /devices\[1\]\.targets\[0\]\.disk: .*none\.img: cannot open for writing: there is no such file/,
      ],
      [
        "a directory that is missing",
        { plugin: "virtioFs", tag: "t", directory: { kind: "directory", path: "none" }, mmio },
        /devices\[1\]\.directory: .*none: expected a directory: there is none/,
      ],
      [
        "a directory that is a file",
        { plugin: "virtioFs", tag: "t", directory: { kind: "directory", path: "odd.img" }, mmio },
        /devices\[1\]\.directory: .*odd\.img: expected a directory: it is something else/,
      ],
      [
        "a MAC that is none",
        { plugin: "virtioNet", link: { kind: "loopback" }, mac: "52:54:00:12:34", mmio },
        /devices\[1\]\.mac: expected a unicast MAC address such as .*, found "52:54:00:12:34"/,
      ],
      [
        "a fault that is none",
        disk("", {
          disk: { kind: "faulty", disk: { kind: "file", path: "half.img" }, faults: [{ error: "bad" }] },
        }),
        /devices\[1\]\.disk\.faults\[0\]\.error: expected an errno's name/,
      ],
    ])("%s", async (_what, device, message) => {
      const { code, err } = await makeWith(maker, device);
      expect(err).toMatch(message);
      expect([code, err.trim().split("\n").length]).toEqual([2, 1]);
    });

    // Root may write any file but those of the kernel that nobody may.
    const isRoot = process.getuid?.() === 0;
    it.skipIf(isRoot && !existsSync(READ_ONLY))(
      "an image that may only be read (needs a file that its user may not write)",
      async () => {
        const { code, err } = await makeWith(maker, disk(isRoot ? READ_ONLY : "ro.img"));
        expect(err).toMatch(/devices\[1\]\.disk: .*: cannot open for writing: permission denied/);
        expect([code, err.trim().split("\n").length]).toEqual([2, 1]);
      },
    );
  },
);

// Whether somebody listens there, a check does not ask: it may be this machine.
describe.each(makers.filter((maker) => maker !== "validate"))(
  "%s: a socket that cannot be had is one line with its path, and exit code 1",
  (maker) => {
    it.each<[string, object, RegExp]>([
      [
        "a socket at which somebody listens",
        { plugin: "virtioConsole", to: { kind: "socket", path: "taken.sock" }, mmio },
        /devices\[1\]\.to: .*taken\.sock: cannot listen: somebody listens there/,
      ],
      [
        "a socket of the host's end of vsock at which somebody listens",
        { plugin: "virtioVsock", cid: 3, to: { kind: "unix", path: "taken.sock" }, mmio },
        /devices\[1\]\.to: .*taken\.sock: cannot listen: somebody listens there/,
      ],
      [
        "a file where a socket is to be",
        { plugin: "virtioConsole", to: { kind: "socket", path: "odd.img" }, mmio },
        /devices\[1\]\.to: .*odd\.img: cannot listen: there is a file of that name/,
      ],
    ])("%s", async (_what, device, message) => {
      const { code, err } = await makeWith(maker, device);
      expect(err).toMatch(message);
      expect([code, err.trim().split("\n").length]).toEqual([1, 1]);
    });
  },
);
