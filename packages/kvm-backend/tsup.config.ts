import { defineConfig } from "tsup";

export default defineConfig({
  entry: { index: "src/index.ts", "vcpu-worker": "src/vcpu/vcpu-worker.ts" },
  format: "esm",
  target: "node24",
  dts: { entry: { index: "src/index.ts" } },
  clean: true,
});
