import { deviceClauses } from "./device-clauses.ts";
import type { Clause } from "./clause.ts";
import { ClauseDriver } from "./clause-driver.ts";
import { kindClauses, PROBES } from "./kind-clauses.ts";
import { packedClauses } from "./packed-clauses.ts";
import { queueClauses } from "./queue-clauses.ts";
import { splitClauses } from "./split-clauses.ts";
import type { ProbeRequest, VirtioSuiteHooks, VirtioTarget } from "./target.ts";

export { type InProcessOptions, inProcessTarget } from "./in-process-target.ts";
export type { ProbeRequest, VirtioSuiteHooks, VirtioTarget } from "./target.ts";

export interface VirtioConformanceOptions {
  readonly deviceId: number;
  /** A device as after power-on, for each clause anew. */
  readonly create: () => Promise<VirtioTarget>;
  /** For kinds of devices that the suite does not know. */
  readonly probe?: ProbeRequest;
  /** Whether the driver uses packed rings, which the device then must offer. @defaultValue false */
  readonly packed?: boolean;
  /** Clauses that do not hold, and are known not to, by the beginning of `says`: they are expected to fail. */
  readonly violates?: readonly string[];
}

/**
 * Declares one test for each clause of the specification (Virtual I/O Device 1.3) that can be judged from a driver's
 * side: of any device, of its virtqueues, and of what kind of device it is.
 */
export function virtioConformance(hooks: VirtioSuiteHooks, options: VirtioConformanceOptions): void {
  const { deviceId, create, packed = false, violates = [] } = options;
  const probe = options.probe ?? PROBES[deviceId];
  if (probe === undefined) {
    throw new Error(
      `virtio conformance: no request is known that a device of ID ${deviceId} answers; give a probe`,
    );
  }
  const clauses = [
    ...deviceClauses(deviceId),
    ...queueClauses(packed),
    ...(packed ? packedClauses : splitClauses),
    ...kindClauses(deviceId),
  ];
  hooks.describe(packed ? "virtio 1.3, packed rings" : "virtio 1.3", () => {
    for (const clause of clauses) {
      const isKnown = violates.some((known) => clause.says.startsWith(known));
      hooks.it(`§${clause.section}: ${clause.says}`, async ({ skip }) => {
        const target = await create();
        try {
          const violation = await violationOf(clause, { target, probe, packed, skip });
          if (isKnown && violation === undefined)
            throw new Error("the clause holds, and is listed as violated");
          if (!isKnown && violation !== undefined) throw violation;
        } finally {
          await target.close();
        }
      });
    }
  });
}

interface Run {
  readonly target: VirtioTarget;
  readonly probe: ProbeRequest;
  readonly packed: boolean;
  readonly skip: (note: string) => void;
}

async function violationOf(clause: Clause, { target, probe, packed, skip }: Run): Promise<Error | undefined> {
  let skipped: string | undefined;
  try {
    await clause.run({
      target,
      probe,
      start: (options) => ClauseDriver.start(target, { ...options, packed }),
      skip: (note) => {
        skipped = note;
        throw new Error(note);
      },
    });
  } catch (error) {
    if (skipped !== undefined) {
      skip(skipped);
      return undefined;
    }
    return error instanceof Error ? error : new Error(String(error));
  }
  return undefined;
}
