export * from "./driver-queue.ts";
export * from "./packed-driver-queue.ts";
export * from "./split-driver-queue.ts";
export * from "./virtio-bench.ts";
