import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakeMemory } from "../testing/index.ts";
import { DeviceQueue } from "./device-queue.ts";
import type { DriverQueue } from "./driver-queue.ts";
import { FeatureSet } from "./feature-set.ts";
import { PackedDriverQueue } from "./packed-driver-queue.ts";
import { SplitDriverQueue } from "./split-driver-queue.ts";

// From the data sheet, not from our constants (virtio 1.3 §6).
const EVENT_IDX = 29;
const RING_PACKED = 34;
const SIZE = 4;
const BUFFER = { gpa: 0x8000, length: 16 };

/** Memory that lets somebody else have a turn before each access of the driver's. */
class ContendedMemory extends FakeMemory {
  other: () => void = () => undefined;

  override readU16(gpa: number): number {
    this.other();
    return super.readU16(gpa);
  }

  override readU32(gpa: number): number {
    this.other();
    return super.readU32(gpa);
  }

  override writeU16(gpa: number, value: number): boolean {
    this.other();
    return super.writeU16(gpa, value);
  }

  override writeU32(gpa: number, value: number): boolean {
    this.other();
    return super.writeU32(gpa, value);
  }
}

/** A driver that collects when it is interrupted, and a device that looks when it is notified. */
class Pair {
  readonly memory = new ContendedMemory(1 << 16);
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  added = 0;
  collected = 0;
  /** An interrupt has come that the driver has not handled. */
  isInterrupted = false;
  /** The device looks at the queue. */
  isAwake = false;

  constructor(kind: "split" | "packed", eventIdx: boolean) {
    const { memory } = this;
    const Driver = kind === "split" ? SplitDriverQueue : PackedDriverQueue;
    this.driver = new Driver({ memory, gpa: 0, size: SIZE, eventIdx });
    this.device = new DeviceQueue({
      size: SIZE,
      addresses: this.driver.addresses,
      features: FeatureSet.of([
        ...(eventIdx ? [EVENT_IDX] : []),
        ...(kind === "packed" ? [RING_PACKED] : []),
      ]),
      memory,
      request: () => undefined,
      interrupt: () => {
        this.isInterrupted = true;
      },
      fail: (fault) => {
        throw new Error(fault);
      },
    });
  }

  /** One step of the device's, at any time between two steps of the driver's. */
  stepDevice(): void {
    if (!this.isAwake) return;
    const chain = this.device.pop();
    if (chain === undefined) {
      this.isAwake = !this.device.enableNotifications();
      return;
    }
    this.device.disableNotifications();
    this.device.push(chain, 0);
    this.device.flush();
  }

  add(): void {
    if (this.driver.add([BUFFER], []) === undefined) return;
    this.added++;
  }

  notify(): void {
    if (this.driver.needsNotification()) this.isAwake = true;
  }

  handleInterrupt(): void {
    if (!this.isInterrupted) return;
    this.isInterrupted = false;
    this.collected += this.driver.collect().length;
  }

  finish(): void {
    this.notify();
    while (this.isAwake || this.isInterrupted) {
      this.stepDevice();
      this.handleInterrupt();
    }
  }
}

describe.each([
  ["split", false],
  ["split", true],
  ["packed", false],
  ["packed", true],
] as const)("the driver's side of a %s queue (EVENT_IDX: %s)", (kind, eventIdx) => {
  const driverStep = fc.oneof(
    { weight: 3, arbitrary: fc.constant("add" as const) },
    { weight: 2, arbitrary: fc.constant("notify" as const) },
    { weight: 3, arbitrary: fc.constant("handleInterrupt" as const) },
  );

  it("misses neither notification nor interrupt, wherever the device has its turns", () => {
    fc.assert(
      fc.property(
        fc.array(driverStep, { maxLength: 60 }),
        fc.infiniteStream(fc.constantFrom(0, 0, 1, 1, 2, 4)),
        (steps, turns) => {
          const pair = new Pair(kind, eventIdx);
          pair.memory.other = () => {
            for (let left = turns.next().value as number; left > 0; left--) pair.stepDevice();
          };
          for (const step of steps) pair[step]();
          pair.memory.other = () => undefined;
          pair.finish();
          expect([pair.collected, pair.driver.free]).toEqual([pair.added, SIZE]);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("says what was used while no interrupts were wanted (§2.7.7, §2.8.10)", () => {
    const pair = new Pair(kind, eventIdx);
    pair.isAwake = true;
    expect(pair.driver.wantInterrupts(false)).toBe(true);
    pair.add();
    pair.stepDevice();
    expect(pair.isInterrupted).toBe(false);
    expect(pair.driver.wantInterrupts(true)).toBe(false);
    expect(pair.driver.collect()).toHaveLength(1);
    expect(pair.driver.wantInterrupts(true)).toBe(true);
    pair.add();
    pair.stepDevice();
    expect(pair.isInterrupted).toBe(true);
  });
});
