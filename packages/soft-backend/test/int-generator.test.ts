import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { packGolden, unpackGolden } from "./fuzz/golden.ts";
import { randomVector } from "./fuzz/int-generator.ts";
import { nativeExecutor } from "./fuzz/native.ts";
import { Random } from "./fuzz/random.ts";
import { differences, registerPool } from "./fuzz/vector.ts";

const draw = (seed: number, count: number) => {
  const random = new Random(seed);
  const pool = registerPool(seed);
  return { pool, vectors: Array.from({ length: count }, () => randomVector(random, pool)) };
};

describe("integer vectors", () => {
  it("are the same for the same seed", () => {
    expect(draw(5, 50)).toEqual(draw(5, 50));
    expect(draw(5, 50)).not.toEqual(draw(6, 50));
  });

  it("hold golden results of every kind of ending", () => {
    const { vectors } = unpackGolden(readFileSync(new URL("golden/int-vectors.br", import.meta.url)));
    expect(vectors.length).toBeGreaterThan(10_000);
    const traps = new Set(vectors.map((v) => v.outcome.trap));
    for (const trap of [0, 3, 4, 5, 6, 12, 13, 14]) expect(traps).toContain(trap);
  });

  const native = nativeExecutor();
  it.skipIf(native === undefined)(
    "have the same outcome whenever a processor runs them (needs gcc on x86-64)",
    () => {
      const { pool, vectors } = draw(7, 3000);
      const first = native?.run(vectors, pool) ?? [];
      const second = native?.run(vectors, pool) ?? [];
      native?.close();
      expect(first.length).toBe(vectors.length);
      const unstable = vectors.flatMap((v, i) => {
        const a = first[i];
        const b = second[i];
        return a === undefined || b === undefined ? ["missing"] : differences(v, a, b);
      });
      expect(unstable).toEqual([]);
      const { vectors: unpacked } = unpackGolden(packGolden(vectors, first, pool));
      unpacked.forEach(({ vector, outcome, memoryHash }, i) => {
        expect(vector).toEqual(vectors[i]);
        const expected = first[i];
        if (expected === undefined) return;
        expect(
          differences(
            vector,
            expected,
            memoryHash === undefined ? outcome : { ...outcome, memory: expected.memory },
          ),
        ).toEqual([]);
      });
    },
  );
});
