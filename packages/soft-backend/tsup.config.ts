import { copyFile } from "node:fs/promises";
import { defineConfig } from "tsup";

export default defineConfig({
  entry: { index: "src/index.ts" },
  format: "esm",
  target: "node24",
  dts: true,
  clean: true,
  // cpu.wasm lies beside the bundle, where `wasm-module.ts` looks first.
  onSuccess: () => copyFile("generated/cpu.wasm", "dist/cpu.wasm"),
});
