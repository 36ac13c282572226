export * from "@northbridge/core/contracts";
export * from "./define.ts";
