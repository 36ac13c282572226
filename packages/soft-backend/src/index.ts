export { x86_64V2 } from "@northbridge/sdk";
export { MAX_GUEST_MEMORY } from "./cpu/core.ts";
export { softHypervisor } from "./hypervisor.ts";
