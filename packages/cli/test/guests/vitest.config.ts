import { join } from "node:path";
import { defineConfig, type ViteUserConfig } from "vitest/config";

const conditions = ["northbridge-source"];

/** The full matrix of guests: `pnpm test:guests`. Takes an hour of a small host; one machine at a time. */
const config: ViteUserConfig = defineConfig({
  root: join(import.meta.dirname, "..", "..", "..", ".."),
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    globalSetup: ["packages/soft-backend/scripts/vitest-setup.ts"],
    include: ["packages/cli/test/guests/**/*.matrix.ts"],
    reporters: ["verbose"],
    fileParallelism: false,
    testTimeout: 900_000,
    hookTimeout: 900_000,
  },
});

export default config;
