export * from "./backend/index.ts";
export type { ClauseHooks } from "./declare-clauses.ts";
export * from "./host/index.ts";
export * from "./vhost-user/index.ts";
export * from "./virtio/index.ts";
