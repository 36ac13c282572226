import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { exampleGuest } from "./harness/find-guest.ts";
import { runTool } from "./harness/host-tools.ts";
import { scratch } from "./harness/machine-file.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..", "..");
const DEVICE = join(ROOT, "examples", "thermometer", "thermometer.ts");

/** What `@vitest/coverage-v8` writes of a file: how often each statement ran, and where it is (Istanbul's format). */
interface FileCoverage {
  readonly s: Readonly<Record<string, number>>;
  readonly statementMap: Readonly<Record<string, { readonly start: { readonly line: number } }>>;
}

it("`vitest --coverage` counts the lines of a device that a program of a stock Linux has reached", async (context) => {
  const guest = await exampleGuest();
  if ("missing" in guest) return context.skip(guest.missing);
  await using directory = await scratch();
  const vitest = [
    ...["run", "--root", ROOT, "examples/thermometer", "-t", "Linux, on the software CPU", "--reporter=dot"],
    ...["--coverage", "--coverage.reporter=json", `--coverage.reportsDirectory=${directory.path}`],
    "--coverage.include=examples/thermometer/thermometer.ts",
  ];
  await runTool(join(ROOT, "node_modules", ".bin", "vitest"), ...vitest);
  const report = await readFile(join(directory.path, "coverage-final.json"), "utf8");
  const device = (JSON.parse(report) as Readonly<Record<string, FileCoverage>>)[DEVICE];
  if (device === undefined) throw new Error(`${DEVICE} is not in ${report.slice(0, 200)}`);
  const lines = (await readFile(DEVICE, "utf8")).split("\n");
  const runs = (code: string): number =>
    Object.entries(device.statementMap)
      .filter(([, { start }]) => lines[start.line - 1]?.includes(code) === true)
      .reduce((most, [id]) => Math.max(most, device.s[id] ?? 0), 0);
  // Only a driver's writes lead there: the alarm, and measuring that is started and stopped.
  expect(runs("STATUS |= STATUS.ALARM")).toBeGreaterThan(0);
  expect(runs("timer.disarm();")).toBeGreaterThan(0);
  const counts = Object.values(device.s);
  const reached = counts.filter((count) => count > 0).length;
  console.log(`thermometer.ts: ${reached} of ${counts.length} statements`);
});
