import { defineConfig } from "tsup";

export default defineConfig({
  entry: {
    index: "src/index.ts",
    "asm/index": "src/asm/index.ts",
    "host/index": "src/host/index.ts",
    "pci/index": "src/pci/index.ts",
    "virtio/index": "src/virtio/index.ts",
    "testing/index": "src/testing/index.ts",
    "fuzz/index": "src/fuzz/index.ts",
    "recording/index": "src/recording/index.ts",
    "reload/index": "src/reload/index.ts",
    "vitest/index": "src/vitest/index.ts",
    "conformance/index": "src/conformance/index.ts",
  },
  format: "esm",
  target: "node24",
  // `host` is the one entry that knows Node.
  dts: { compilerOptions: { types: ["node"] } },
  clean: true,
});
