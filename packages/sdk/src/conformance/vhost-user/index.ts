import { type ClauseHooks, declareClauses } from "../declare-clauses.ts";
import { PROBES } from "../virtio/kind-clauses.ts";
import type { ProbeRequest } from "../virtio/target.ts";
import { ClauseDevice } from "./clause-device.ts";
import { ClauseFront } from "./clause-front.ts";
import { type VhostUserContext, vhostUserClauses } from "./clauses.ts";
import type { VhostUserWire } from "./wire.ts";

export type { EventCounter, SharedBytes, VhostUserSocket, VhostUserWire } from "./wire.ts";

/** A back end to judge. */
export interface VhostUserConformanceOptions {
  /** The way to the back end. `@northbridge/vhost-user/conformance` has one for the path of a socket. */
  readonly wire: VhostUserWire;
  /** Called before each clause: makes sure that there is a back end, where a clause before may have ended it. */
  readonly prepare?: () => Promise<void>;
  /** Virtio's number of the device behind it. */
  readonly deviceId: number;
  /** For kinds of devices that the suite does not know. */
  readonly probe?: ProbeRequest;
  /** Clauses that do not hold, and are known not to, by the beginning of `says`: they are expected to fail. */
  readonly violates?: readonly string[];
}

/**
 * Declares one test for each clause of the vhost-user protocol (QEMU, docs/interop/vhost-user.rst) that can be judged
 * from the front end's side of a socket: negotiation, memory, rings and their states, and what no front end may do to
 * the next one. Each connects anew, one after the other.
 */
export function vhostUserConformance(hooks: ClauseHooks, options: VhostUserConformanceOptions): void {
  const { wire, deviceId, violates = [] } = options;
  const probe = options.probe ?? PROBES[deviceId];
  if (probe === undefined)
    throw new Error(
      `vhost-user conformance: no request is known that a device of ID ${deviceId} answers; give a probe`,
    );
  declareClauses<VhostUserContext>(hooks, "vhost-user", {
    clauses: vhostUserClauses,
    violates,
    open: async () => {
      await options.prepare?.();
      const opened: { close(): void }[] = [];
      const keep = <T extends { close(): void }>(made: T): T => {
        opened.push(made);
        return made;
      };
      return {
        context: {
          wire,
          probe,
          connect: async () => keep(await ClauseFront.connect(wire)),
          start: async (how) => keep(await ClauseDevice.start(wire, probe, how)),
        },
        close: async () => {
          for (const made of opened) made.close();
          // A back end that serves one front end at a time sees this one go first.
          await wire.linger();
        },
      };
    },
  });
}
