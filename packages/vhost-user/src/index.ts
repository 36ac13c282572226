export type { CreateMemory } from "./backend/region-table.ts";
export { VhostUserBackend, type VhostUserBackendOptions } from "./backend/vhost-user-backend.ts";
export { ExternalDevice, type ExternalDeviceOptions } from "./frontend/external-device.ts";
export { SharedRam } from "./frontend/shared-ram.ts";
