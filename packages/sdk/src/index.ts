export * from "@northbridge/core/contracts";
