export * from "../bench/index.ts";
export * from "./fake-bus.ts";
export * from "./fake-char-backend.ts";
export * from "./fake-clock.ts";
export * from "./fake-line.ts";
export * from "./fake-machine.ts";
export * from "./fake-memory.ts";
export * from "./virtio/index.ts";
