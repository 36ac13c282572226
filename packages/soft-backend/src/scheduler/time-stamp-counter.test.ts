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

/** kHz: the default, ones of real parts, and ones that divide nothing. */
const rates = fc.oneof(
  fc.constantFrom(1_000_000, 2_596_096, 999_999, 1_000_001, 1, 65_536),
  fc.integer({ min: 1, max: 10_000_000 }),
);
const ticksAt = (ns: number, khz: number): bigint => (BigInt(ns) * BigInt(khz)) / 1_000_000n;

describe("TimeStampCounter", () => {
  it("adds up as 64-bit arithmetic does, at any rate", () => {
    const step = fc.record({
      op: fc.constantFrom("write", "adjust", "pass"),
      value: u64,
      ns: fc.integer({ min: 0, max: 2 ** 40 }),
    });
    fc.assert(
      fc.property(rates, fc.array(step), (khz, steps) => {
        const clock = new VirtualClock();
        const tsc = new TimeStampCounter(clock);
        tsc.setRate(khz);
        let offset = 0n;
        let adjust = 0n;
        for (const { op, value, ns } of steps) {
          const now = ticksAt(clock.nowNs(), khz);
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
          expect(join(tsc.low, tsc.high)).toBe(BigInt.asUintN(64, ticksAt(clock.nowNs(), khz) + offset));
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

  it("has reached a value when it says so at another rate, and not a nanosecond before", () => {
    fc.assert(
      fc.property(
        rates,
        u64,
        fc.integer({ min: 0, max: 2 ** 45 }),
        fc.integer({ min: 1, max: 2 ** 40 }),
        (khz, start, now, ahead) => {
          const clock = new VirtualClock();
          clock.skipTo(now);
          const tsc = new TimeStampCounter(clock);
          tsc.setRate(khz);
          tsc.set(low(start), high(start));
          const target = BigInt.asUintN(64, start + BigInt(ahead));
          const at = tsc.nanosecondsAt(low(target), high(target));
          fc.pre(at < 2 ** 52);
          const missing = (ns: number): bigint => BigInt(ahead) - (ticksAt(ns, khz) - ticksAt(now, khz));
          expect(missing(at)).toBeLessThanOrEqual(0n);
          expect(missing(at - 1)).toBeGreaterThan(0n);
        },
      ),
    );
  });

  it("goes on from where it is when its rate changes", () => {
    const clock = new VirtualClock();
    const tsc = new TimeStampCounter(clock);
    clock.skipTo(1_000_000);
    tsc.setRate(2_500_000);
    clock.skipTo(2_000_000);
    tsc.sample();
    expect(join(tsc.low, tsc.high)).toBe(3_500_000n);
  });
});
