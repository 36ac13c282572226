export { checkMemorySlot, type SlotRequest } from "./check-memory-slot.ts";
export { checkVcpuState } from "./check-vcpu-state.ts";
export { type CpuPlace, withTopology } from "./cpu-topology.ts";
export { withTscRate } from "./tsc-rate.ts";
export { x86_64V2 } from "./x86-64-v2.ts";
