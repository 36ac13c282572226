export { type ChainStateV1, DescriptorChain } from "./descriptor-chain.ts";
export { DeviceQueue } from "./device-queue.ts";
export type {
  DriverMemory,
  DriverQueue,
  DriverQueueOptions,
  Segment,
  UsedBuffer,
} from "./driver-queue.ts";
export { FeatureSet } from "./feature-set.ts";
export { JudgedDevice } from "./judged-device.ts";
export { PackedDriverQueue } from "./packed-driver-queue.ts";
export { QueueRegisters, type QueueRegistersStateV1 } from "./queue-registers.ts";
export { SplitDriverQueue } from "./split-driver-queue.ts";
export {
  type QueueAddresses,
  type QueueFault,
  type QueueJournal,
  type QueueSetup,
  type QueueStateV1,
  serve,
  type VirtQueue,
} from "./virt-queue.ts";
export { type ConfigPart, type VirtioDevice, type VirtioSession, VirtioTransport } from "./virtio-device.ts";
export {
  type EndpointInterrupts,
  type EndpointOptions,
  type EndpointStateV1,
  VirtioEndpoint,
} from "./virtio-endpoint.ts";
export * as virtioSpec from "./spec.ts";
