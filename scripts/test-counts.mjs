/** Prints the counts of the last `npm test`, and of what ran behind it: "N passed, N failed[, N skipped]". */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./workspace.mjs";

const [first, ...more] = ["test-results.json", "kvm-results.json"].map((name) =>
  join(root, ".northbridge", name),
);
if (existsSync(first)) {
  const results = [first, ...more.filter((file) => existsSync(file))].map((file) =>
    JSON.parse(readFileSync(file, "utf8")),
  );
  const sum = (count) => results.reduce((total, result) => total + count(result), 0);
  // A file that could not even be loaded has no tests to count: it counts as one failure.
  const broken = ({ testResults }) =>
    testResults.filter(
      (suite) =>
        suite.status === "failed" && !suite.assertionResults.some((test) => test.status === "failed"),
    ).length;
  const skipped = sum(({ numPendingTests, numTodoTests }) => numPendingTests + numTodoTests);
  const counts = [
    `${String(sum(({ numPassedTests }) => numPassedTests))} passed`,
    `${String(sum((result) => result.numFailedTests + broken(result)))} failed`,
    ...(skipped > 0 ? [`${String(skipped)} skipped`] : []),
  ];
  console.log(counts.join(", "));
} else {
  // The tests did not get as far as running.
  console.log("0 passed, 1 failed");
}
