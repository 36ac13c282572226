import { defineHostEnd, type HostEndKind, type HostEndOptions } from "@northbridge/sdk";
import * as v from "valibot";
import { ThrottledDisk, type ThrottleLimits } from "../graph/throttled-disk.ts";

/** `{ kind: throttled, … }` in a config. At least one of the two limits. */
export interface ThrottledEndOptions {
  /** The disk behind it. */
  readonly disk: HostEndOptions;
  readonly requestsPerSec?: number | undefined;
  readonly bytesPerSec?: number | undefined;
  readonly burstMs?: ThrottleLimits["burstMs"];
}

const positive = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

const options: v.GenericSchema<ThrottledEndOptions> = v.pipe(
  v.strictObject({
    disk: v.custom<HostEndOptions>(() => true),
    requestsPerSec: v.optional(positive),
    bytesPerSec: v.optional(positive),
    burstMs: v.optional(positive),
  }),
  v.check(
    ({ requestsPerSec, bytesPerSec }) => requestsPerSec !== undefined || bytesPerSec !== undefined,
    "expected requestsPerSec or bytesPerSec",
  ),
);

/** `{ kind: throttled, requestsPerSec: 500, disk: { kind: qcow2, … } }`: a disk that is only so fast, in guest time. */
export const throttled: HostEndKind<"block", ThrottledEndOptions, ThrottledEndOptions> = {
  ...defineHostEnd({
    kind: "throttled",
    of: "block",
    options,
    open: async ({ disk, requestsPerSec, bytesPerSec, burstMs }, context) => {
      const { clock, ends, readOnly } = context;
      const limits = { requests: requestsPerSec, bytes: bytesPerSec, burstMs };
      const limited = new ThrottledDisk(await ends.block(disk, { readOnly }), clock, limits);
      limited.hurry(); // devices are set up while guest time stands still, and may read at once
      context.onStats(() => ({ throttled: limited.throttled }));
      return limited;
    },
    tryOpen: ({ disk }, { ends, readOnly }) => ends.block(disk, { readOnly }),
  }),
  ends: { disk: "block" },
};
