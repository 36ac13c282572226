import { defineConfig } from "vitest/config";

const conditions = ["northbridge-source"];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    globalSetup: ["packages/soft-backend/scripts/vitest-setup.ts"],
    reporters: ["default", "./scripts/skip-reasons.ts"],
    setupFiles: ["scripts/vitest-seed.ts", "scripts/vitest-wasm.ts"],
    include: ["packages/*/src/**/*.test.ts", "packages/*/test/**/*.test.ts", "examples/*/*.test.ts"],
    // Guests run on an interpreter and hosts are shared: a limit is there to end what hangs.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    coverage: {
      provider: "v8",
      include: ["packages/*/src/**/*.ts"],
      exclude: ["**/*.test.ts", "**/index.ts", "packages/*/src/contracts/**"],
      reporter: ["text-summary", "html", "lcovonly"],
      reportsDirectory: "coverage",
    },
  },
});
