import type { DeviceUnderTest } from "./device-under-test.ts";
import { fuzzDevice, type FuzzOptions } from "./fuzz-device.ts";
import { lawsFor } from "./laws.ts";

/** A test framework's two words. */
export interface DeviceConformanceHooks {
  describe(name: string, body: () => void): void;
  it(name: string, body: () => Promise<void>): void;
}

/**
 * Declares the tests that every device passes (the contracts of `IoHandler`, `Snapshottable` and `Resettable`), with
 * programs of accesses, memory contents and time made from its register map, or from the ranges it maps. Laws in
 * `device.except` are left out.
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
    for (const { name, title } of lawsFor(device)) hooks.it(title, () => fuzzDevice(name, device, options));
  });
}
