export { blockConformance } from "./block.ts";
export { clockConformance, type ClockUnderTest } from "./clock.ts";
export type { SuiteHooks } from "./conformance-hooks.ts";
export { type LinkUnderTest, netConformance, unpluggedConformance } from "./net.ts";
export { type LinkFrames, type UnsummedFrame, unsummedHeader } from "./net-frames.ts";
