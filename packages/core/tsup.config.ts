import { defineConfig } from "tsup";

export default defineConfig({
  entry: {
    index: "src/index.ts",
    "contracts/index": "src/contracts/index.ts",
    "testing/index": "src/testing/index.ts",
  },
  format: "esm",
  target: "node24",
  dts: true,
  clean: true,
});
