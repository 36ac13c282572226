export type { CreateMemory } from "./backend/region-table.ts";
export { VhostUserBackend, type VhostUserBackendOptions } from "./backend/vhost-user-backend.ts";
