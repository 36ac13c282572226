/** Prints the counts of the last `npm test`: "N passed, N failed[, N skipped]". */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./workspace.mjs";

const file = join(root, ".northbridge", "test-results.json");
if (existsSync(file)) {
  const results = JSON.parse(readFileSync(file, "utf8"));
  // A file that could not even be loaded has no tests to count: it counts as one failure.
  const broken = results.testResults.filter(
    (suite) => suite.status === "failed" && !suite.assertionResults.some((test) => test.status === "failed"),
  ).length;
  const skipped = results.numPendingTests + results.numTodoTests;
  const counts = [
    `${String(results.numPassedTests)} passed`,
    `${String(results.numFailedTests + broken)} failed`,
    ...(skipped > 0 ? [`${String(skipped)} skipped`] : []),
  ];
  console.log(counts.join(", "));
} else {
  // The tests did not get as far as running.
  console.log("0 passed, 1 failed");
}
