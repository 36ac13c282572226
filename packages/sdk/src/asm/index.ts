export { Assembler } from "./assembler.ts";
export type { CodeBits } from "./encoder.ts";
export * from "./operands.ts";
