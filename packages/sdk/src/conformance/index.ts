export * from "./backend/index.ts";
export * from "./host/index.ts";
