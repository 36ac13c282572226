/** Records golden vectors on this host: `node test/x87/generate-golden.ts`. */
import { writeGolden } from "./golden.ts";
import { runNative } from "./host.ts";

const SEED = "20260101";

const recordings: readonly [name: string, program: string, ...args: string[]][] = [
  ["x87-basic", "x87-vectors", "records", SEED, "4000", "basic"],
  ["x87-transcendental", "x87-vectors", "records", SEED, "2000", "transcendental"],
  ["x87-environment", "x87-vectors", "records", SEED, "250", "environment"],
  ["x87-table", "x87-vectors", "table"],
  ["softfloat", "softfloat-vectors", SEED, "5000"],
];

for (const [name, program, ...args] of recordings) {
  const size = writeGolden(name, runNative(program, ...args));
  process.stdout.write(`${name}: ${size} bytes\n`);
}
