import { FakeClock } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { expect, it } from "vitest";
import { RateLimiter, type RateLimits } from "./rate-limiter.ts";

/** Sends requests one behind the other, as fast as the limiter lets them, for so much guest time. */
function flood(limits: RateLimits, sizes: () => number, seconds: number) {
  const clock = new FakeClock();
  const done = { operations: 0, bytes: 0 };
  let next = sizes();
  const send = (): void => {
    while (limiter.take(next)) {
      done.operations++;
      done.bytes += next;
      next = sizes();
    }
  };
  const limiter = new RateLimiter(limits, clock, send);
  send();
  clock.advanceTo(seconds * 1e9);
  return done;
}

it("keeps to operations a second", () => {
  const { operations } = flood({ operationsPerSecond: 100, burstMs: 100 }, () => 1e6, 10);
  expect(operations).toBe(1000 + 10); // the burst comes on top
});

it("keeps to bytes a second, for requests of any size", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(1000, 65_536, 10 ** 7),
      fc.constantFrom(1, 50, 1000),
      fc.array(fc.oneof(fc.constantFrom(0, 512, 4096, 1 << 20), fc.nat(100_000)), {
        minLength: 1,
        maxLength: 20,
      }),
      (bytesPerSecond, burstMs, sizes) => {
        fc.pre(sizes.some((size) => size > 0));
        let i = 0;
        const { bytes } = flood({ bytesPerSecond, burstMs }, () => sizes[i++ % sizes.length] ?? 0, 20);
        const largest = Math.max(...sizes);
        const burst = Math.max(1, (bytesPerSecond * burstMs) / 1000);
        expect(bytes).toBeLessThanOrEqual(20 * bytesPerSecond + burst + largest);
        expect(bytes).toBeGreaterThanOrEqual(20 * bytesPerSecond - largest - 1);
      },
    ),
    { numRuns: 60 },
  );
});

it("limits nothing where nothing is said", () => {
  const limiter = new RateLimiter({}, new FakeClock(), () => undefined);
  expect(limiter.take(1e12)).toBe(true);
  expect(limiter.save()).toEqual({ atNs: 0, operations: 0, bytes: 0 });
});

it("goes on after a restore as if nothing had been", () => {
  const limits = { operationsPerSecond: 10, bytesPerSecond: 5000, burstMs: 500 };
  const clock = new FakeClock();
  const limiter = new RateLimiter(limits, clock, () => undefined);
  for (let i = 0; i < 3; i++) limiter.take(700);
  clock.advance(5e7);
  const twin = new RateLimiter(limits, clock, () => undefined);
  twin.restore(JSON.parse(JSON.stringify(limiter.save())) as ReturnType<RateLimiter["save"]>);
  for (let i = 0; i < 40; i++) {
    clock.advance(2e7);
    expect(twin.take(300)).toBe(limiter.take(300));
    expect(twin.save()).toEqual(limiter.save());
  }
  expect(() => {
    twin.restore({ atNs: 0, operations: Number.NaN, bytes: 0 });
  }).toThrow(/cannot restore/);
});
