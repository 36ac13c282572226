import { mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PluginRegistry } from "@northbridge/core";
import { FakeHypervisor, type FakeStep, fakePlugin } from "@northbridge/core/testing";
import { attachVirtio } from "@northbridge/devices-virtio";
import type { VirtioDevice } from "@northbridge/sdk/virtio";
import { expect, it } from "vitest";
import { CliHarness, fake1 } from "../testing/cli-harness.ts";
import { mmio } from "../testing/run-with-device.ts";

/** A device that does `notify` for a notification, and nothing else. */
const oddDevice = (notify: () => void): VirtioDevice => ({
  deviceId: 4,
  features: [],
  queues: [8, 8],
  config: new Uint8Array(0),
  start: () => undefined,
  notify,
  reset: () => undefined,
  save: () => undefined,
  restore: () => undefined,
});

// Virtio 1.3 §4.2.2: registers of a driver's way to DRIVER_OK with queue 1 in use.
const [DRIVER_FEATURES, DRIVER_FEATURES_SEL, QUEUE_SEL, QUEUE_NUM, QUEUE_READY] = [
  0x20, 0x24, 0x30, 0x38, 0x44,
];
const [STATUS, DESC, AVAIL, USED] = [0x70, 0x80, 0x90, 0xa0];
const DRIVER: readonly (readonly [register: number, value: number])[] = [
  ...[1, 3].map((status) => [STATUS, status] as const),
  ...([
    [DRIVER_FEATURES_SEL, 1],
    [DRIVER_FEATURES, 1],
    [STATUS, 11],
    [QUEUE_SEL, 1],
    [QUEUE_NUM, 8],
    [DESC, 0x1000],
    [AVAIL, 0x2000],
    [USED, 0x3000],
    [QUEUE_READY, 1],
    [STATUS, 15], // from here on the device is asked what there is
  ] as const),
];
const program: readonly FakeStep[] = DRIVER.map(([register, value]) => (_vm, { mmio: bus }) => {
  bus.write(mmio.gpa + register, 4, value);
  return undefined;
});

it.each<[string, () => void, string]>([
  [
    "throws",
    () => {
      throw new TypeError("no such sensor");
    },
    "no such sensor",
  ],
  [
    "is async",
    () => Promise.reject(new Error("later")),
    "gave a promise; it is synchronous: keep the request, and push it when it is done",
  ],
])(
  "a virtio device whose notify %s ends its machine, by name and with what led to it",
  async (_what, notify, reason) => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-virtio-"));
    const plugin = fakePlugin("@fake/devices/odd", (ctx) => attachVirtio(ctx, oddDevice(notify), { mmio }));
    const consoleAndPower = fake1.devices({} as never).map(({ spec }) => ({ pluginName: spec.name, spec }));
    const registry = new PluginRegistry([plugin, ...consoleAndPower], [fake1]);
    const file = join(directory.path, "machine.json");
    const devices = [{ plugin: "odd", id: "boom" }];
    await writeFile(file, JSON.stringify({ machine: "fake-1", memory: { mib: 1 }, devices }));
    const before = process.cwd();
    process.chdir(directory.path); // reports go below it
    try {
      const { code, err } = await new CliHarness(new FakeHypervisor(program), { registry }).run("run", file);
      expect(code).toBe(1);
      const [line = ""] = err.split("; what led to it is in ");
      expect(line).toBe(`northbridge: the machine failed: device boom: notify of queue 1: ${reason}`);
      const [, report = ""] = /is in (\S+);/.exec(err) ?? [];
      const saved = await readFile(join(directory.path, report), "utf8");
      expect(saved).toMatch(/last accesses:\nwrite boom\+0x70 = 0x1 \(4 bytes\)\n/);
      expect(saved).toMatch(/\nwrite boom\+0x70 = 0xf \(4 bytes\)\n\nall of them, to replay:\n/);
      expect(err).toContain(
        `; to replay all of it: northbridge trace record ${file} --device boom --out boom.trace\n`,
      );
    } finally {
      process.chdir(before);
    }
  },
);
