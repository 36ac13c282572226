import { VirtualClock } from "@northbridge/core";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TimeStampCounter } from "./time-stamp-counter.ts";

const u64 = fc.oneof(
  fc.constantFrom(0n, 1n, 0xffff_ffffn, 0x1_0000_0000n, 0xffff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n),
  fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
);
const low = (value: bigint): number => Number(BigInt.asUintN(32, value));
const high = (value: bigint): number => Number(BigInt.asUintN(32, value >> 32n));
const join = (lo: number, hi: number): bigint => (BigInt(hi) << 32n) | BigInt(lo);

describe("TimeStampCounter", () => {
  it("adds up as 64-bit arithmetic does", () => {
    const step = fc.record({
      op: fc.constantFrom("write", "adjust", "pass"),
      value: u64,
      ns: fc.integer({ min: 0, max: 2 ** 40 }),
    });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const clock = new VirtualClock();
        const tsc = new TimeStampCounter(clock);
        let offset = 0n;
        let adjust = 0n;
        for (const { op, value, ns } of steps) {
          const now = BigInt(clock.nowNs());
          if (op === "pass") clock.skipTo(clock.nowNs() + ns);
          else if (op === "write") {
            const next = value - now;
            adjust += next - offset;
            offset = next;
            tsc.write(low(value), high(value));
          } else {
            offset += value - adjust;
            adjust = value;
            tsc.writeAdjust(low(value), high(value));
          }
          tsc.sample();
          expect(join(tsc.low, tsc.high)).toBe(BigInt.asUintN(64, BigInt(clock.nowNs()) + offset));
          expect(join(tsc.adjustLow, tsc.adjustHigh)).toBe(BigInt.asUintN(64, adjust));
        }
      }),
    );
  });

  it("knows when it will reach a value", () => {
    fc.assert(
      fc.property(
        u64,
        fc.integer({ min: 0, max: 2 ** 45 }),
        fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
        (start, now, ahead) => {
          const clock = new VirtualClock();
          clock.skipTo(now);
          const tsc = new TimeStampCounter(clock);
          tsc.set(low(start), high(start));
          const target = BigInt.asUintN(64, start + BigInt(ahead));
          expect(tsc.nanosecondsAt(low(target), high(target))).toBe(now + ahead);
        },
      ),
    );
  });
});
