import { type ClauseHooks, declareClauses } from "../declare-clauses.ts";
import { deviceClauses } from "./device-clauses.ts";
import type { ClauseContext } from "./clause.ts";
import { ClauseDriver } from "./clause-driver.ts";
import { kindClauses, PROBES } from "./kind-clauses.ts";
import { packedClauses } from "./packed-clauses.ts";
import { queueClauses } from "./queue-clauses.ts";
import { splitClauses } from "./split-clauses.ts";
import type { ProbeRequest, VirtioTarget } from "./target.ts";

export { type InProcessOptions, inProcessTarget } from "./in-process-target.ts";
export type { ProbeRequest, VirtioTarget } from "./target.ts";

/** A virtio device to judge. */
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
export function virtioConformance(hooks: ClauseHooks, options: VirtioConformanceOptions): void {
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
  declareClauses<ClauseContext>(hooks, packed ? "virtio 1.3, packed rings" : "virtio 1.3", {
    clauses,
    violates,
    open: async () => {
      const target = await create();
      const start: ClauseContext["start"] = (options) => ClauseDriver.start(target, { ...options, packed });
      return { context: { target, probe, start }, close: () => target.close() };
    },
  });
}
