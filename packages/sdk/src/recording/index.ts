export { describeTrace, type TraceRegisters } from "./describe-trace.ts";
export { expectSameAsTrace, shrinkTrace } from "./judge-trace.ts";
export { readTrace } from "./read-trace.ts";
export { recordedDevice, recordedPlugin, type TraceSink } from "./record-device.ts";
export type { ReplayFailure } from "./replay-cursor.ts";
export { replayDevice, type ReplayOptions, type ReplayResult } from "./replay-device.ts";
export type { Trace, TraceHeader, TraceRecord } from "./trace-record.ts";
