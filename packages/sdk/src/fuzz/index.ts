export { type CampaignOptions, type CampaignResult, type CorpusEntry, fuzzCampaign } from "./campaign.ts";
export { type Counterexample, describeCounterexample } from "./counterexample.ts";
export { deviceConformance, type DeviceConformanceHooks } from "./device-conformance.ts";
export { type DeviceTrial, deviceTrial } from "./device-trial.ts";
export type { DeviceUnderTest, LawName } from "./device-under-test.ts";
export { type DiscoveredRegister, discoverRegisters } from "./discover-registers.ts";
export { fuzzDevice, type FuzzOptions } from "./fuzz-device.ts";
export type { Operation } from "./operation-of.ts";
