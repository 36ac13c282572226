import { type FuzzOptions, fuzzLaw } from "./fuzz-device.ts";
import {
  answersInWidth,
  holdsLevels,
  type Judge,
  keepsRegisterMap,
  resetsToPowerOn,
  survivesSaving,
} from "./judges.ts";
import type { DeviceUnderTest } from "./run-program.ts";

/** A test framework's two words. */
export interface DeviceConformanceHooks {
  describe(name: string, body: () => void): void;
  it(name: string, body: () => Promise<void>): void;
}

const TESTS: readonly (readonly [name: string, law: Judge])[] = [
  ["answers every access with a value of its width", answersInWidth],
  ["cannot be told from one saved and restored between any two operations", survivesSaving],
  ["cannot be told from a new one after reset", resetsToPowerOn],
  ["holds its interrupt lines", holdsLevels],
  ["keeps to its register map", keepsRegisterMap],
];

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
  const { except = [] } = device;
  const laws = TESTS.filter(
    ([, law]) => !except.includes(law.name) && (law !== keepsRegisterMap || device.registers !== undefined),
  );
  hooks.describe("device conformance", () => {
    for (const [name, law] of laws) hooks.it(name, () => fuzzLaw(law, device, options));
  });
}
