export * from "./backend/index.ts";
export * from "./host/index.ts";
export * from "./virtio/index.ts";
