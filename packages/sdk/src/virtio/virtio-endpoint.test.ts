import { describe, expect, it } from "vitest";
import { FakeClock, FakeMemory, SplitDriverQueue } from "../testing/index.ts";
import type { VirtioDevice, VirtioSession } from "./virtio-device.ts";
import { serve } from "./virt-queue.ts";
import { VirtioEndpoint } from "./virtio-endpoint.ts";

// From the specification, not from our constants (virtio 1.3 §2.1, §6).
const [ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK] = [1, 2, 4, 8];
const VERSION_1 = 1; // word 1
const SIZE = 8;

class EchoDevice implements VirtioDevice {
  readonly deviceId = 4;
  readonly features: readonly number[] = [];
  readonly queues: readonly number[] = [SIZE];
  readonly config: Uint8Array;
  readonly identity = [{ name: "address", offset: 0, length: 2 }];
  served = 0;
  starts = 0;
  /** Called with every request. */
  onRequest: () => void = () => undefined;
  endReset: (error?: Error) => void = () => undefined;
  #session: VirtioSession | undefined;

  constructor(address = 1) {
    this.config = Uint8Array.of(address, 0, 0, 0);
  }

  start(session: VirtioSession): void {
    this.#session = session;
    this.starts++;
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    if (queue === undefined) return;
    serve(queue, (chain) => {
      this.served++;
      queue.push(chain, 0);
      queue.flush();
      this.onRequest();
    });
  }

  reset(): Promise<void> {
    this.#session = undefined;
    return new Promise((resolve, reject) => {
      this.endReset = (error) => {
        if (error === undefined) resolve();
        else reject(error);
      };
    });
  }

  save(): undefined {
    return undefined;
  }

  restore(): void {
    // There is nothing.
  }
}

function setup(device = new EchoDevice()) {
  const memory = new FakeMemory(1 << 16);
  const clock = new FakeClock();
  const endpoint = new VirtioEndpoint({
    name: "echo",
    device,
    memory,
    clock,
    interrupts: { queue: () => undefined, config: () => undefined },
  });
  const driver = new SplitDriverQueue({ memory, gpa: 0, size: SIZE });
  /** A driver's way to DRIVER_OK, which waits for nothing (§3.1.1). */
  const start = (): void => {
    endpoint.setStatus(ACKNOWLEDGE);
    endpoint.setStatus(ACKNOWLEDGE | DRIVER);
    endpoint.setFeatures(1, VERSION_1);
    endpoint.setStatus(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    expect(endpoint.status & FEATURES_OK).toBe(FEATURES_OK);
    const { desc, driver: avail, device: used } = driver.addresses;
    [desc, 0, avail, 0, used, 0].forEach((word, i) => {
      endpoint.queues[0]?.setArea(i, word);
    });
    endpoint.queues[0]?.setSize(SIZE);
    endpoint.enableQueue(0);
    endpoint.setStatus(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
  };
  const add = (): void => {
    driver.add([{ gpa: 0x8000, length: 4 }], []);
  };
  return { device, memory, clock, endpoint, driver, start, add };
}
const settle = async (): Promise<void> => {
  for (let i = 0; i < 4; i++) await Promise.resolve();
};

describe("VirtioEndpoint", () => {
  it.each([undefined, new Error("the host failed")])(
    "starts a driver that does not wait for the end of a reset, after it (%s)",
    async (error) => {
      const { device, endpoint, start, add } = setup();
      start();
      endpoint.setStatus(0);
      expect(endpoint.status).not.toBe(0);
      start();
      add();
      endpoint.notify(0);
      expect([device.starts, device.served]).toEqual([1, 0]);
      device.endReset(error);
      await settle();
      expect([device.starts, device.served]).toEqual([2, 1]);
    },
  );

  it("ends a reset that nothing follows with a status of 0", async () => {
    const { device, endpoint, start } = setup();
    start();
    endpoint.setStatus(0);
    device.endReset();
    await settle();
    expect([endpoint.status, device.starts]).toEqual([0, 1]);
  });

  it("gives others their turn, though a driver offers requests without end", () => {
    const { device, endpoint, driver, clock, start, add } = setup();
    start();
    let left = 1000;
    device.onRequest = () => {
      if (left-- > 0) add(); // another vCPU's
      if (driver.free < SIZE / 2) driver.collect();
    };
    add();
    endpoint.notify(0);
    expect(device.served).toBe(4 * SIZE);
    let turns = 0;
    for (; device.served <= 1000 && turns < 100; turns++) clock.advanceTo(clock.nowNs() + 1000);
    expect([device.served, turns > 20]).toEqual([1001, true]);
  });

  it("refuses the state of a device that was another one", () => {
    const { endpoint, start } = setup();
    start();
    const state = endpoint.save();
    setup().endpoint.restore(state);
    expect(() => {
      setup(new EchoDevice(7)).endpoint.restore(state);
    }).toThrow(/address: bytes 1,0, expected 7,0/);
  });

  it("says whose pause failed where nobody waited for it: restored, before it goes on", async () => {
    const { endpoint, start } = setup();
    start();
    const state = endpoint.save();
    class Restless extends EchoDevice {
      pause(): Promise<void> {
        return Promise.reject(new Error("the host hangs"));
      }
    }
    const restored = setup(new Restless()).endpoint;
    restored.restore(state);
    await new Promise(setImmediate); // an unhandled rejection would be told of by now
    expect(() => {
      restored.resume();
    }).toThrow("device echo: pause: the host hangs");
    await expect(restored.pause()).rejects.toThrow("the host hangs");
  });
});
