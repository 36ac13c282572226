import {
  fuzzDevice,
  fuzzInterrupts,
  type FuzzOptions,
  fuzzRegisters,
  fuzzReset,
  fuzzSnapshots,
} from "./fuzz-device.ts";
import type { DeviceUnderTest } from "./run-program.ts";

/** A test framework's two words. */
export interface DeviceConformanceHooks {
  describe(name: string, body: () => void): void;
  it(name: string, body: () => Promise<void>): void;
}

/**
 * Declares the tests that every device passes (the contracts of `IoHandler`, `Snapshottable` and `Resettable`), with
 * programs of accesses, memory contents and time made from its register map, or from the ranges it maps.
 *
 * @example
 * ```ts
 * deviceConformance({ describe, it }, { create: () => thermometer(), registers: map });
 * ```
 */
export function deviceConformance(
  hooks: DeviceConformanceHooks,
  device: DeviceUnderTest,
  options: FuzzOptions = {},
): void {
  hooks.describe("device conformance", () => {
    hooks.it("answers every access with a value of its width", () => fuzzDevice(device, options));
    hooks.it("cannot be told from one saved and restored between any two operations", () =>
      fuzzSnapshots(device, options),
    );
    hooks.it("cannot be told from a new one after reset", () => fuzzReset(device, options));
    hooks.it("holds its interrupt lines", () => fuzzInterrupts(device, options));
    if (device.registers !== undefined)
      hooks.it("keeps to its register map", () => fuzzRegisters(device, options));
  });
}
