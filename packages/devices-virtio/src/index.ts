export { attach as attachVirtio, type PlacementConfig } from "./attach.ts";
export { virtioBalloon, type VirtioBalloonConfig } from "./balloon/plugin.ts";
export { VirtioBalloon, type VirtioBalloonStateV1 } from "./balloon/virtio-balloon.ts";
export * as blkSpec from "./blk/spec.ts";
export { virtioBlk, type VirtioBlkConfig } from "./blk/plugin.ts";
export type { OnError } from "./on-error.ts";
export { VirtioBlk, type VirtioBlkDeps, type VirtioBlkStateV1 } from "./blk/virtio-blk.ts";
export { virtioConsole, type VirtioConsoleConfig } from "./console/plugin.ts";
export { type NamedPort, VirtioConsole, type VirtioConsoleStateV1 } from "./console/virtio-console.ts";
export { virtioFs, type VirtioFsConfig } from "./fs/plugin.ts";
export { VirtioFs, type VirtioFsStateV1 } from "./fs/virtio-fs.ts";
export { type HostEndConfig } from "./host-end.ts";
export { virtioInput, type VirtioInputConfig } from "./input/plugin.ts";
export { type InputKind } from "./input/capabilities.ts";
export { type InputEvent } from "./input/input-event.ts";
export { VirtioInput, type VirtioInputStateV1 } from "./input/virtio-input.ts";
export { defaultMac, parseMac } from "./net/mac.ts";
export * as netSpec from "./net/spec.ts";
export { virtioNet, type VirtioNetConfig } from "./net/plugin.ts";
export { type NetLimits, VirtioNet, type VirtioNetOptions, type VirtioNetStateV1 } from "./net/virtio-net.ts";
export { type RateLimits } from "./rate-limiter.ts";
export { VirtioPci, type VirtioPciStateV1 } from "./pci/virtio-pci.ts";
export { virtioPmem, type VirtioPmemConfig } from "./pmem/plugin.ts";
export type { PmemContent } from "./pmem/pmem-content.ts";
export { VirtioPmem } from "./pmem/virtio-pmem.ts";
export { virtioRng, type VirtioRngConfig } from "./rng/plugin.ts";
export { VirtioRng, type VirtioRngStateV1 } from "./rng/virtio-rng.ts";
export { type ScsiTargetConfig, virtioScsi, type VirtioScsiConfig } from "./scsi/plugin.ts";
export {
  type ScsiTarget,
  VirtioScsi,
  type VirtioScsiDeps,
  type VirtioScsiStateV1,
} from "./scsi/virtio-scsi.ts";
export { virtioVsock, type VirtioVsockConfig } from "./vsock/plugin.ts";
export { VirtioVsock, type VirtioVsockStateV1 } from "./vsock/virtio-vsock.ts";
