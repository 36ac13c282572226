import { describe, expect, it } from "vitest";
import { DeviceQueue } from "../../virtio/device-queue.ts";
import { FeatureSet } from "../../virtio/feature-set.ts";
import { Feature } from "../../virtio/spec.ts";
import { FakeMemory } from "../fake-memory.ts";
import { PackedDriverQueue } from "./packed-driver-queue.ts";
import { SplitDriverQueue } from "./split-driver-queue.ts";

/** Memory in which a device on another thread gets in between: right before a store to the driver's area is seen. */
class RacyMemory extends FakeMemory {
  driverArea = -1;
  race: (() => void) | undefined;

  override writeU16(gpa: number, value: number): boolean {
    if (gpa >= this.driverArea && this.driverArea >= 0) {
      const race = this.race;
      this.race = undefined;
      race?.();
    }
    return super.writeU16(gpa, value);
  }
}

describe.each([
  ["split", SplitDriverQueue, []],
  ["packed", PackedDriverQueue, [Feature.RING_PACKED]],
] as const)("the driver's side of a %s queue", (_name, Queue, more) => {
  it("finds what the device uses while it asks to be interrupted, for which none may come", () => {
    const memory = new RacyMemory(1 << 16);
    const driver = new Queue({ memory, gpa: 0, size: 8, eventIdx: true });
    let interrupts = 0;
    const device = new DeviceQueue({
      size: 8,
      addresses: driver.addresses,
      features: FeatureSet.of([Feature.VERSION_1, Feature.EVENT_IDX, ...more]),
      memory,
      request: () => undefined,
      interrupt: () => interrupts++,
      fail: (fault) => expect.fail(fault),
    });
    const use = (): void => {
      device.push(device.pop()!, 0);
      device.flush();
    };
    for (let request = 0; request < 4; request++) driver.add([{ gpa: 0x8000, length: 16 }], []);
    use();
    const heard = interrupts;
    memory.driverArea = driver.addresses.driver;
    memory.race = use;
    const found = driver.collect().length;
    // What it did not find it is told of.
    expect(found + (interrupts - heard)).toBeGreaterThanOrEqual(2);
    expect(memory.race).toBeUndefined();
    use();
    expect([interrupts - heard > 0, driver.collect().length]).toEqual([true, 1]);
  });
});
