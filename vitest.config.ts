import { defineConfig } from "vitest/config";

const conditions = ["northbridge-source"];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { include: ["packages/*/src/**/*.test.ts", "packages/*/test/**/*.test.ts", "examples/*/*.test.ts"] },
});
