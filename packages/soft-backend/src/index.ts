export { x86_64V2 } from "./cpuid/x86-64-v2.ts";
export { MAX_GUEST_MEMORY } from "./cpu/core.ts";
export { softHypervisor } from "./hypervisor.ts";
