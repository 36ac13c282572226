export * from "@northbridge/core/contracts";
export * from "./define.ts";
export * from "./registers/index.ts";
export * from "./backend/index.ts";
