export { blockConformance } from "./block.ts";
export { clockConformance, type ClockUnderTest } from "./clock.ts";
export type { SuiteHooks } from "./conformance-hooks.ts";
export { type LinkUnderTest, netConformance } from "./net.ts";
