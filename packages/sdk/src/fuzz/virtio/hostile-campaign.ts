import fc from "fast-check";
import type { DeviceUnderTest } from "../device-under-test.ts";
import type { DrivenVirtioDevice } from "./driven-device.ts";
import { driveHostilely, type HostileTrialResult } from "./hostile-driver.ts";
import { type HostileOperation, hostilePrograms, RINGS, type Rings } from "./hostile-operation.ts";
import { drivenPlugin } from "./plugin-device.ts";

/** The law's name: what a virtio device owes a driver that gets everything wrong. */
export const HOSTILE = "hostile driver";

/** The shortest list of operations found by which a device breaks that law. */
export interface HostileCounterexample {
  readonly law: { readonly name: typeof HOSTILE };
  readonly rings: Rings;
  readonly operations: readonly HostileOperation[];
  readonly message: string;
  readonly seed: number;
}

/** What a hostile search is told. */
export interface HostileSearch {
  readonly runs: number;
  /** @defaultValue fast-check's */
  readonly seed?: number | undefined;
  /** Hears of every trial that broke nothing. */
  readonly onTrial?: (result: HostileTrialResult) => void;
}

/** Tries one layout of rings. */
export async function findHostileCounterexample(
  driven: DrivenVirtioDevice,
  rings: Rings,
  { runs, seed, onTrial }: HostileSearch,
): Promise<HostileCounterexample | undefined> {
  const details = await fc.check(
    fc.asyncProperty(hostilePrograms(driven), async (operations) => {
      const result = await driveHostilely(driven, rings, operations);
      onTrial?.(result);
    }),
    { numRuns: runs, ...(seed !== undefined && { seed }) },
  );
  if (!details.failed) return undefined;
  const [operations = []] = details.counterexample ?? [];
  const found = { law: { name: HOSTILE }, rings, seed: details.seed } as const;
  return minimise(driven, { ...found, operations, message: messageOf(details.errorInstance) });
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The same failure by fewer operations. */
async function minimise(
  driven: DrivenVirtioDevice,
  found: HostileCounterexample,
): Promise<HostileCounterexample> {
  let best = found;
  for (let wasShortened = true; wasShortened; ) {
    wasShortened = false;
    for (let at = best.operations.length - 1; at >= 0; at--) {
      const operations = best.operations.filter((_, index) => index !== at);
      try {
        await driveHostilely(driven, best.rings, operations);
      } catch (error) {
        best = { ...best, operations, message: messageOf(error) };
        wasShortened = true;
      }
    }
  }
  return best;
}

/**
 * Tries a virtio device with drivers that get everything wrong: chains that are slightly broken, rings that are written
 * over, resets at any time. Rejects with a counterexample, as a test to paste; does nothing where the plugin makes no
 * virtio device.
 *
 * @example
 * ```ts
 * it("survives hostile drivers", () => fuzzVirtioDevice({ create: () => thermometer(), code: "thermometer()" }));
 * ```
 */
export async function fuzzVirtioDevice(
  subject: DeviceUnderTest,
  { runs = 100, seed }: { readonly runs?: number; readonly seed?: number } = {},
): Promise<void> {
  const driven = await drivenPlugin(subject);
  if (driven === undefined) return;
  for (const rings of RINGS) {
    const found = await findHostileCounterexample(driven, rings, { runs, seed });
    if (found !== undefined) throw new Error(describeHostile(subject, found));
  }
}

/**
 * Has a hostile driver do this to a device. Rejects where the device throws, writes what it was not offered, does not
 * report what it wrote, says that it wrote more than there was room for, is kept busy without end, does not end a reset,
 * or has any of a request left after one. Printed counterexamples are written with it.
 * @param device a plugin's, or one with requests of its kind
 */
export async function hostileTrial(
  device: DeviceUnderTest | DrivenVirtioDevice,
  rings: Rings,
  operations: readonly HostileOperation[],
): Promise<HostileTrialResult> {
  const driven = "create" in device ? await drivenPlugin(device) : device;
  if (driven === undefined) throw new Error("hostileTrial: the plugin makes no virtio device");
  return driveHostilely(driven, rings, operations);
}

/** What is wrong, and a test to paste that shows it: it fails with the same words. */
export function describeHostile(
  { code = "device()", importCode, prepare }: DeviceUnderTest,
  { law, rings, operations, message, seed }: HostileCounterexample,
): string {
  const subject = [`create: () => ${code}`, ...(prepare === undefined ? [] : ["prepare"])].join(", ");
  return [
    `${law.name}: ${message} (seed ${seed})`,
    "",
    `import { hostileTrial } from "@northbridge/sdk/fuzz";`,
    ...(importCode === undefined ? [] : [`import { it } from "vitest";`, importCode]),
    "",
    `it("found by fuzzing: ${law.name}", async () => {`,
    `  await hostileTrial({ ${subject} }, ${JSON.stringify(rings)}, [`,
    ...operations.map((operation) => `    ${JSON.stringify(operation)},`),
    "  ]);",
    "});",
  ].join("\n");
}
