/**
 * `npm test`: installs, builds, fetches the guest that some tests boot and runs every test. Arguments go to vitest.
 * The counts are left in `.northbridge/test-results.json` (vitest's JSON reporter).
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fetchGuest } from "./guest.mjs";
import { setUp } from "./setup.mjs";
import { runMain, runToEnd } from "./step.mjs";
import { root } from "./workspace.mjs";

const results = join(root, ".northbridge", "test-results.json");

await runMain(async () => {
  rmSync(results, { force: true });
  await setUp();
  const missing = await fetchGuest();
  if (missing !== undefined) {
    process.stderr.write(`tests that boot Linux will skip, there is no kernel: ${missing}\n`);
  }
  const skips = join(root, "scripts", "skip-reasons.ts");
  const reporters = [
    "--reporter=default",
    `--reporter=${skips}`,
    "--reporter=json",
    `--outputFile.json=${results}`,
  ];
  return runToEnd(join(root, "node_modules", ".bin", "vitest"), [
    "run",
    ...reporters,
    ...process.argv.slice(2),
  ]);
});
