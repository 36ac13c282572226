export * from "../../virtio/driver-queue.ts";
export * from "../../virtio/packed-driver-queue.ts";
export * from "../../virtio/split-driver-queue.ts";
export * from "./virtio-bench.ts";
