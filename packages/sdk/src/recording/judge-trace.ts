import type { DeviceEntry } from "@northbridge/core/contracts";
import { describeRecord, namesOf, opens } from "./describe-trace.ts";
import { readTrace } from "./read-trace.ts";
import { replayDevice, type ReplayOptions } from "./replay-device.ts";
import type { TraceRecord } from "./trace-record.ts";

/** Something happens to the device. */
const begins = (record: TraceRecord): boolean =>
  opens(record) || record.kind === "lifecycle" || record.kind === "settled";

/** Records shown before the one that failed. */
const LINES_BEFORE = 12;

/**
 * Replays a trace file against a device: a test in a line. Rejects where the device does something else than the
 * recorded one, with what came before.
 *
 * @example
 * ```ts
 * await expectSameAsTrace(await readFile("boot.trace"), thermometer(), { registers });
 * ```
 */
export async function expectSameAsTrace(
  bytes: Uint8Array,
  entry: DeviceEntry,
  options: ReplayOptions = {},
): Promise<void> {
  const trace = readTrace(bytes);
  const { failure } = await replayDevice(trace, entry, options);
  if (failure === undefined) return;
  const names = namesOf(trace, options.registers);
  const from = Math.max(0, failure.at - LINES_BEFORE);
  const before = trace.records
    .slice(from, failure.at)
    .flatMap((record, at) =>
      record.kind === "end" ? [] : [`  ${from + at} ${describeRecord(record, names)}`],
    );
  throw new Error([`record ${failure.at}: ${failure.reason}`, "before it:", ...before].join("\n"));
}

/**
 * The shortest beginning of a trace on which the device still fails; `undefined` where it does not fail. What fails is
 * a difference to the recorded device, what the device throws, and what `options.check` throws.
 */
export async function shrinkTrace(
  bytes: Uint8Array,
  entry: DeviceEntry,
  options: ReplayOptions = {},
): Promise<Uint8Array | undefined> {
  const trace = readTrace(bytes);
  const { failure } = await replayDevice(trace, entry, options);
  if (failure === undefined) return undefined;
  let last = failure.at;
  let depth = 0;
  do {
    const record = trace.records[last];
    if (record === undefined) break;
    if (opens(record)) depth++;
    if (record.kind === "end") depth--;
    last++;
  } while (depth > 0);
  // What a kept promise or a lifecycle call sets off has no end: it goes on until something else happens.
  for (let next = trace.records[last]; next !== undefined && !begins(next); next = trace.records[last])
    last++;
  return trace.bytes.slice(0, trace.ends[last - 1]);
}
