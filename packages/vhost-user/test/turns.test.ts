import { socketPair } from "@northbridge/linux";
import { VirtioRng } from "@northbridge/devices-virtio";
import { FeatureSet, SplitDriverQueue, virtioSpec } from "@northbridge/sdk/virtio";
import { expect, it } from "vitest";
import { VhostUserTarget } from "../src/conformance/index.ts";
import { FrontEnd } from "../src/frontend/front-end.ts";
import { VhostUserBackend } from "../src/index.ts";
import { createMemory } from "./devices.ts";
import { turn } from "./raw-front-end.ts";

const isHere = process.platform === "linux" && process.arch === "x64";
const REQUESTS = 2000;

it.skipIf(!isHere)("serves a driver that never pauses, and everybody else meanwhile", async () => {
  const [ours, theirs] = socketPair();
  let served = 0;
  let again: () => void = () => undefined;
  const fill = (): void => {
    if (++served < REQUESTS) again();
  };
  const backend = new VhostUserBackend({ device: new VirtioRng({ entropy: { fill } }), createMemory });
  void backend.serve(theirs);
  const target = await VhostUserTarget.over(new FrontEnd(ours), [8]);
  const { memory } = target;
  const gpa = memory.slots[0]?.gpa ?? 0;
  const queue = new SplitDriverQueue({ memory, gpa, size: 8 });
  queue.add([], [{ gpa: gpa + 4096, length: 16 }]);
  // As from another processor: while the device answers a request it gets the same again, which is head 0.
  again = () => {
    memory.writeU16(queue.addresses.driver + 2, served + 1);
  };
  expect(await target.negotiate(FeatureSet.of([virtioSpec.Feature.VERSION_1]))).toBe(true);
  await target.enableQueue(0, 8, queue.addresses);
  await target.driverOk();
  target.notify(0);
  while (served === 0) await turn();
  expect(served).toBeLessThan(REQUESTS);
  while (served < REQUESTS) await turn();
  await target.close();
  await backend.close();
});
