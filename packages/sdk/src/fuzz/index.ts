export {
  type CampaignOptions,
  type CampaignResult,
  type CorpusEntry,
  describeFinding,
  fuzzCampaign,
  type HostileEntry,
  type ProgramEntry,
} from "./campaign.ts";
export { type Counterexample, describeCounterexample } from "./counterexample.ts";
export { deviceConformance, type DeviceConformanceHooks } from "./device-conformance.ts";
export { type DeviceTrial, deviceTrial } from "./device-trial.ts";
export type { DeviceChecker, DeviceUnderTest, LawName } from "./device-under-test.ts";
export { type DiscoveredRegister, discoverRegisters } from "./discover-registers.ts";
export { fuzzDevice, type FuzzOptions } from "./fuzz-device.ts";
export type { Operation } from "./operation-of.ts";
export {
  buffersOf,
  type DrivenHost,
  type DrivenVirtioDevice,
  type OperationsUnderWay,
  type RequestShape,
} from "./virtio/driven-device.ts";
export {
  fuzzVirtioDevice,
  type HostileCounterexample,
  hostileTrial,
} from "./virtio/hostile-campaign.ts";
export type { HostileTrialResult } from "./virtio/hostile-driver.ts";
export { type HostileOperation, hostilePrograms, RINGS, type Rings } from "./virtio/hostile-operation.ts";
