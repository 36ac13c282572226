import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { CoreDriver, coreIsBuilt } from "./fuzz/core-driver.ts";
import { hashMemory, unpackGolden } from "./fuzz/golden.ts";
import { randomVector } from "./fuzz/int-generator.ts";
import { nativeExecutor } from "./fuzz/native.ts";
import { Random } from "./fuzz/random.ts";
import {
  describeVector,
  differences,
  isPromised,
  type Outcome,
  registerPool,
  type Vector,
} from "./fuzz/vector.ts";

const SHOWN = 10;
/** Collects what to print of the mismatches: enough to run each again. */
class Mismatches {
  count = 0;
  readonly #shown: string[] = [];

  check(vector: Vector, pool: BigUint64Array, expected: Outcome, actual: Outcome, mode: string): void {
    const found = differences(vector, expected, actual);
    if (found.length === 0) return;
    this.count++;
    if (this.#shown.length < SHOWN)
      this.#shown.push(`${describeVector(vector, pool)} (${mode})\n  ${found.join("\n  ")}`);
  }

  get report(): string {
    return this.count === 0 ? "" : `${this.count.toString()} mismatches\n${this.#shown.join("\n")}`;
  }
}

describe.skipIf(!coreIsBuilt())("integer instructions against a processor (needs the built core)", () => {
  const { pool, vectors } = unpackGolden(readFileSync(new URL("golden/int-vectors.br", import.meta.url)));

  it.each([false, true])(
    "agree with the golden vectors (single instructions at a time: %s)",
    (pieces) => {
      const core = new CoreDriver();
      const mismatches = new Mismatches();
      for (const { vector, outcome, memoryHash } of vectors) {
        const actual = core.run(vector, pool, pieces);
        const expected =
          memoryHash === undefined || hashMemory(actual.memory) !== memoryHash
            ? outcome
            : { ...outcome, memory: actual.memory };
        mismatches.check(vector, pool, expected, actual, pieces ? "pieces" : "whole");
      }
      expect(mismatches.report).toBe("");
    },
    120_000,
  );

  const native = nativeExecutor();
  it.skipIf(native === undefined)(
    "agree with this host's processor on fresh vectors (needs gcc on x86-64)",
    () => {
      const core = new CoreDriver();
      const mismatches = new Mismatches();
      const seconds = Number(process.env["NORTHBRIDGE_FUZZ_SECONDS"] ?? "2");
      const seed = Number(process.env["NORTHBRIDGE_FUZZ_SEED"] ?? Date.now() % 0x7fffffff);
      const random = new Random(seed);
      const until = performance.now() + seconds * 1000;
      const livePool = registerPool(seed);
      while (performance.now() < until && mismatches.count < 1000) {
        const drawn = Array.from({ length: 2000 }, () => randomVector(random, livePool));
        const outcomes = native?.run(drawn, livePool) ?? [];
        drawn.forEach((vector, i) => {
          const expected = outcomes[i];
          if (expected === undefined || !isPromised(vector, expected)) return;
          mismatches.check(
            vector,
            livePool,
            expected,
            core.run(vector, livePool, i % 4 === 0),
            `NORTHBRIDGE_FUZZ_SEED=${seed.toString()}`,
          );
        });
      }
      native?.close();
      expect(mismatches.report).toBe("");
    },
    600_000,
  );
});
