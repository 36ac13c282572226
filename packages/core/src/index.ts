export * from "./contracts/index.ts";
export * from "./bus/address-space.ts";
export * from "./clock/realtime-clock.ts";
export * from "./clock/virtual-clock.ts";
export * from "./interrupts/interrupt-fan-in.ts";
export * from "./lifecycle/lifecycle.ts";
export * from "./memory/layout.ts";
export * from "./memory/slotted-guest-memory.ts";
