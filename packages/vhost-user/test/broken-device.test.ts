import { socketPair } from "@northbridge/linux";
import { FeatureSet, SplitDriverQueue, type VirtioDevice, virtioSpec } from "@northbridge/sdk/virtio";
import { expect, it } from "vitest";
import { VhostUserTarget } from "../src/conformance/index.ts";
import { FrontEnd } from "../src/frontend/front-end.ts";
import { VhostUserBackend } from "../src/index.ts";
import { createMemory } from "./devices.ts";
import { turn } from "./raw-front-end.ts";

const isHere = process.platform === "linux" && process.arch === "x64";
const SIZE = 8;

const NOTHING: VirtioDevice = {
  deviceId: 4,
  features: [],
  queues: [SIZE],
  config: new Uint8Array(0),
  start: () => undefined,
  notify: () => undefined,
  reset: () => undefined,
  save: () => undefined,
  restore: () => undefined,
};

/** What a person reads of a device with such hooks, whose driver kicks it three times. */
async function said(hooks: Partial<VirtioDevice>) {
  const [ours, theirs] = socketPair();
  const lines: string[] = [];
  const backend = new VhostUserBackend({
    device: { ...NOTHING, ...hooks },
    name: "boom",
    createMemory,
    say: (line) => lines.push(line),
  });
  const served = backend.serve(theirs);
  const target = await VhostUserTarget.over(new FrontEnd(ours), [SIZE]);
  expect(await target.negotiate(FeatureSet.of([virtioSpec.Feature.VERSION_1]))).toBe(true);
  const queue = new SplitDriverQueue({
    memory: target.memory,
    gpa: target.memory.slots[0]?.gpa ?? 0,
    size: SIZE,
  });
  await target.enableQueue(0, SIZE, queue.addresses);
  await target.driverOk();
  const { kicks: before = 0 } = backend.stats();
  for (let kick = 1; kick <= 3; kick++) {
    target.notify(0);
    while ((backend.stats()["kicks"] ?? 0) < before + kick) await turn();
  }
  const needsReset = backend.stats()["needsReset.deviceThrew"];
  await target.close();
  await served;
  await backend.close();
  return { lines: lines.slice(1, -1), needsReset };
}

/** What an async function gives, for a call that may not be one. */
const later = (): never => Promise.reject(new Error("later")) as never;
const promised = "gave a promise; it is synchronous: keep the request, and push it when it is done";

it.skipIf(!isHere).each<[string, Partial<VirtioDevice>, string]>([
  [
    "throws",
    {
      notify: () => {
        throw new TypeError("no such sensor");
      },
    },
    "notify of queue 0: no such sensor",
  ],
  ["is async", { notify: later }, `notify of queue 0: ${promised}`],
  [
    "throws when it starts",
    {
      start: () => {
        throw new TypeError("no such sensor");
      },
    },
    "start: no such sensor",
  ],
  ["cannot pause", { pause: () => Promise.reject(new Error("stuck")) }, "pause: stuck"],
])("a device that %s is named once, and needs a reset", async (_what, hooks, reason) => {
  const { lines, needsReset } = await said(hooks);
  expect(lines).toEqual([`the device needs a reset: device boom: ${reason}`]);
  if (hooks.pause === undefined) expect(needsReset).toBe(1);
});
