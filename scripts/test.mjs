/**
 * `npm test`: installs, builds and runs every test. Arguments go to vitest.
 * The counts are left in `.northbridge/test-results.json` (vitest's JSON reporter).
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { setUp } from "./setup.mjs";
import { run, runMain } from "./step.mjs";
import { root } from "./workspace.mjs";

const results = join(root, ".northbridge", "test-results.json");

await runMain(async () => {
  rmSync(results, { force: true });
  await setUp();
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${results}`];
  const problem = await run(join(root, "node_modules", ".bin", "vitest"), [
    "run",
    ...reporters,
    ...process.argv.slice(2),
  ]);
  return problem === undefined ? 0 : 1;
});
