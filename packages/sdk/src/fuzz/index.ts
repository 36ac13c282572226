export { type CampaignOptions, type CampaignResult, type CorpusEntry, fuzzCampaign } from "./campaign.ts";
export { type Counterexample } from "./counterexample.ts";
export { deviceConformance, type DeviceConformanceHooks } from "./device-conformance.ts";
export {
  describeCounterexample,
  fuzzDevice,
  fuzzInterrupts,
  type FuzzOptions,
  fuzzRegisters,
  fuzzReset,
  fuzzSnapshots,
} from "./fuzz-device.ts";
export type { DeviceUnderTest, LawName } from "./run-program.ts";
