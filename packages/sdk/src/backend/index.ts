export { checkMemorySlot, type SlotRequest } from "./check-memory-slot.ts";
export { checkVcpuState } from "./check-vcpu-state.ts";
