import { buildWasm, isStale } from "./build-wasm.ts";

/** Runs once before the tests: they meet the core as its sources are now. */
export default function setup(): void {
  if (isStale()) buildWasm();
}
