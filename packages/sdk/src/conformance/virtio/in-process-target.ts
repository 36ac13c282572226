import { FakeMemory } from "../../testing/fake-memory.ts";
import type { FeatureSet } from "../../virtio/feature-set.ts";
import { Feature, Status } from "../../virtio/spec.ts";
import type { VirtioDevice } from "../../virtio/virtio-device.ts";
import { VirtioEndpoint } from "../../virtio/virtio-endpoint.ts";
import type { VirtioTarget } from "./target.ts";

const MEMORY_BYTES = 16 << 20;
const MEMORY_GPA = 0x10_0000;
/** Turns of the event loop that a device may need. */
const PATIENCE = 10_000;
const LINGER = 50;

/** What a device in this process needs. */
export interface InProcessOptions {
  /** One turn of the event loop, for host ends that need it. @defaultValue one of promises */
  readonly turn?: () => Promise<void>;
  /** Whether to offer packed rings. @defaultValue false */
  readonly packed?: boolean;
  /** Guest memory, of at least 16 MiB in one piece. @defaultValue memory of its own */
  readonly memory?: FakeMemory;
}

/** A device in this process, behind the registers that every transport has. */
export function inProcessTarget(
  device: VirtioDevice,
  {
    turn = () => Promise.resolve(),
    packed = false,
    memory = new FakeMemory(MEMORY_BYTES, MEMORY_GPA),
  }: InProcessOptions = {},
): VirtioTarget {
  const interrupts: number[] = device.queues.map(() => 0);
  const endpoint = new VirtioEndpoint({
    name: "conformance",
    device,
    memory,
    ringFeatures: packed ? [Feature.RING_PACKED] : [],
    interrupts: {
      queue: (index) => {
        interrupts[index] = (interrupts[index] ?? 0) + 1;
      },
      config: () => undefined,
    },
  });
  const until = async (condition: () => boolean): Promise<boolean> => {
    for (let i = 0; i < PATIENCE; i++) {
      if (condition()) return true;
      await turn();
    }
    return condition();
  };
  return {
    memory,
    offered: endpoint.offered,
    queueSizes: device.queues,
    config: (length) => {
      const bytes = new Uint8Array(length);
      for (let i = 0; i < length; i++) bytes[i] = endpoint.readConfig(i, 1);
      return Promise.resolve(bytes);
    },
    negotiate: (features: FeatureSet) => {
      endpoint.setStatus(Status.ACKNOWLEDGE);
      endpoint.setStatus(endpoint.status | Status.DRIVER);
      endpoint.setFeatures(0, features.low);
      endpoint.setFeatures(1, features.high);
      endpoint.setStatus(endpoint.status | Status.FEATURES_OK);
      return Promise.resolve((endpoint.status & Status.FEATURES_OK) !== 0);
    },
    enableQueue: (index, size, { desc, driver, device: used }) => {
      const registers = endpoint.queues[index];
      registers?.setSize(size);
      [desc, driver, used].forEach((gpa, area) => {
        registers?.setArea(2 * area, gpa >>> 0);
        registers?.setArea(2 * area + 1, Math.floor(gpa / 2 ** 32));
      });
      endpoint.enableQueue(index);
      return Promise.resolve();
    },
    driverOk: () => {
      endpoint.setStatus(endpoint.status | Status.DRIVER_OK);
      return Promise.resolve();
    },
    notify: (index) => {
      endpoint.notify(index);
    },
    interrupts: (index) => interrupts[index] ?? 0,
    status: () => endpoint.status,
    until,
    linger: async () => {
      for (let i = 0; i < LINGER; i++) await turn();
    },
    reset: () => {
      endpoint.setStatus(0);
      return until(() => endpoint.status === 0);
    },
    close: async () => {
      await device.pause?.();
      await device.reset();
    },
  };
}
