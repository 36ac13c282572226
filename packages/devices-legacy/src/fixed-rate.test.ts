import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FixedRate } from "./fixed-rate.ts";

describe("FixedRate", () => {
  it.each([1_193_182, 3_579_545, 32_768])("is exact at %i Hz over a year", (hz) => {
    const rate = new FixedRate(hz);
    const year = 366 * 86_400;
    fc.assert(
      fc.property(fc.nat(year), fc.nat(999_999_999), (seconds, rest) => {
        const ns = seconds * 1_000_000_000 + rest;
        fc.pre(Number.isSafeInteger(ns));
        expect(BigInt(rate.ticksAt(ns))).toBe((BigInt(ns) * BigInt(hz)) / 1_000_000_000n);
      }),
    );
    fc.assert(
      fc.property(fc.nat(year), fc.nat(hz), (seconds, rest) => {
        const tick = seconds * hz + rest;
        fc.pre(seconds < 9_000_000);
        const ns = rate.nsOf(tick);
        expect(rate.ticksAt(ns)).toBe(tick);
        expect(ns === 0 || rate.ticksAt(ns - 1) < tick).toBe(true);
      }),
    );
  });
});
