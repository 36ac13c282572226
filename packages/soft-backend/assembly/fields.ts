// Fields of the state block that only the core knows, beside those it shares with the host.
export { CPL, CR0, CR4, DEBUG_HITS, GDTR, IDTR, MODE, SEG_ATTR, SEG_BASE, SEG_LIMIT, SEG_SELECTOR, STEP_ARMED } from "../src/cpu/layout";
export const CS_BASE_FIELD: usize = 0x710;
/** u32: the exception an SSE or x87 instruction meets because of CR0 and CR4, or 0. */
export const SSE_BLOCKED: usize = 0x71c;
export const X87_BLOCKED: usize = 0x720;
