import { DeviceFault } from "@northbridge/core/contracts";
import { expect, it } from "vitest";
import { FakeClock, FakeMemory } from "../testing/index.ts";
import type { VirtioDevice } from "./virtio-device.ts";
import { VirtioEndpoint } from "./virtio-endpoint.ts";

// Virtio 1.3 §2.1: ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK.
const STEPS = [1, 3, 11, 15] as const;
const VERSION_1 = 1; // word 1

const NOTHING: VirtioDevice = {
  deviceId: 4,
  features: [],
  queues: [8],
  config: new Uint8Array(4),
  start: () => undefined,
  notify: () => undefined,
  reset: () => undefined,
  save: () => undefined,
  restore: () => undefined,
};

/** A driver of a device that is like no other in one thing. */
function drive(hooks: Partial<VirtioDevice>) {
  const clock = new FakeClock();
  const memory = new FakeMemory(1 << 16);
  const endpoint = new VirtioEndpoint({
    name: "odd",
    device: { ...NOTHING, ...hooks },
    memory,
    clock,
    interrupts: { queue: () => undefined, config: () => undefined },
  });
  const start = (): void => {
    for (const status of STEPS) {
      if (status === 11) endpoint.setFeatures(1, VERSION_1);
      endpoint.setStatus(status);
      if (status !== 3) continue;
      [0, 0, 0x1000, 0, 0x2000, 0].forEach((word, i) => endpoint.queues[0]?.setArea(i, word));
      endpoint.queues[0]?.setSize(8);
      endpoint.enableQueue(0);
    }
  };
  return { endpoint, clock, start };
}

const boom = (): never => {
  throw new TypeError("boom");
};
const later = (): never => Promise.reject(new Error("later")) as never;
const promised = "gave a promise; it is synchronous: keep the request, and push it when it is done";

it.each<[string, Partial<VirtioDevice>, string]>([
  ["a notify that throws", { notify: boom }, "notify of queue 0: boom"],
  ["a notify that is async", { notify: later }, `notify of queue 0: ${promised}`],
  ["a start that throws", { start: boom }, "start: boom"],
  ["a start that is async", { start: later }, `start: ${promised}`],
  ["an acceptFeatures that throws", { acceptFeatures: boom }, "acceptFeatures: boom"],
  ["an acceptFeatures that is async", { acceptFeatures: later }, `acceptFeatures: ${promised}`],
])("names a device with %s, and what it was asked", (_what, hooks, reason) => {
  const { start } = drive(hooks);
  expect(start).toThrow(expect.objectContaining({ message: `device odd: ${reason}`, device: "odd" }));
});

it("names a device that throws at what a driver does to it while it runs", async () => {
  const fault = (reason: string) => expect.objectContaining({ message: `device odd: ${reason}` }) as Error;
  const writing = drive({ writeConfig: boom });
  expect(() => {
    writing.endpoint.writeConfig(2, 1, 0);
  }).toThrow(fault("writeConfig at 0x2: boom"));
  const resetting = drive({ reset: boom });
  expect(() => {
    resetting.endpoint.setStatus(0);
  }).toThrow(fault("reset: boom"));
  const resuming = drive({ resume: later });
  expect(() => {
    resuming.endpoint.resume();
  }).toThrow(fault(`resume: ${promised}`));
  await expect(drive({ pause: later }).endpoint.pause()).rejects.toThrow(fault("pause: later"));
});

it("takes whatever else a device without types gives for nothing", async () => {
  const something = (): never => 1 as never;
  const { endpoint, start } = drive({ reset: something, resetQueue: something, pause: something });
  start();
  await endpoint.pause();
  endpoint.resume();
  endpoint.setStatus(0);
  expect(endpoint.status).toBe(0);
});

it("has a timer throw what a device throws after a reset that took time", async () => {
  let end: () => void = () => undefined;
  let starts = 0;
  const { endpoint, start, clock } = drive({
    reset: () => new Promise((resolve) => (end = resolve)),
    start: () => {
      if (++starts === 2) boom();
    },
  });
  start();
  endpoint.setStatus(0);
  start();
  end();
  for (let i = 0; i < 8; i++) await Promise.resolve();
  expect(() => {
    clock.advance(1);
  }).toThrow(DeviceFault);
});
