export type { CreateMemory } from "./backend/region-table.ts";
export { VhostUserBackend, type VhostUserBackendOptions } from "./backend/vhost-user-backend.ts";
export {
  ExternalDevice,
  type ExternalDeviceOptions,
  type SocketDeviceOptions,
} from "./frontend/external-device.ts";
export type { RingPlace, RingServer, SharedRegion } from "./frontend/ring-server.ts";
export { SharedRam } from "./frontend/shared-ram.ts";
