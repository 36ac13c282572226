export { deviceConformance, type DeviceConformanceHooks } from "./device-conformance.ts";
export { fuzzDevice, type FuzzOptions, fuzzReset, fuzzSnapshots } from "./fuzz-device.ts";
export type { DeviceUnderTest } from "./run-program.ts";
