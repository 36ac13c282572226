import { FakeClock, VirtioBench } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { VirtioRng } from "./virtio-rng.ts";

const counting = {
  fill: (into: Uint8Array): void => {
    into.set(Uint8Array.from(into, (_, i) => i + 1));
  },
};

describe("VirtioRng", () => {
  it("fills what the driver offers, and at most 64 KiB of it", () => {
    const bench = new VirtioBench(new VirtioRng({ entropy: counting })).start();
    const small = bench.alloc(8);
    const large = bench.alloc(100_000);
    bench.queue(0).add([], [{ gpa: small, length: 8 }]);
    bench.queue(0).add([], [{ gpa: large, length: 100_000 }]);
    bench.kick(0);
    expect(
      bench
        .queue(0)
        .collect()
        .map(({ written }) => written),
    ).toEqual([8, 65_536]);
    expect(bench.bytes(small, 8)).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect(bench.interrupts).toEqual([1]);
  });

  it("gives no more than it may, saved or not", () => {
    const clock = new FakeClock();
    const limits = { rates: { bytesPerSecond: 1000, burstMs: 100 }, clock };
    const bench = new VirtioBench(new VirtioRng({ entropy: counting, limits })).start();
    for (let i = 0; i < 4; i++) bench.queue(0).add([], [{ gpa: bench.alloc(100), length: 100 }]);
    bench.kick(0);
    expect(bench.queue(0).collect()).toHaveLength(1);
    clock.advanceTo(1e8);
    expect(bench.queue(0).collect()).toHaveLength(1);
    const state = JSON.parse(JSON.stringify(bench.endpoint.save())) as ReturnType<typeof bench.endpoint.save>;
    const twin = new VirtioBench(new VirtioRng({ entropy: counting, limits }), { memory: bench.memory });
    twin.endpoint.restore(state);
    bench.endpoint.reset();
    twin.endpoint.resume();
    expect(bench.queue(0).collect()).toEqual([]);
    clock.advanceTo(3e8);
    expect(bench.queue(0).collect()).toHaveLength(2);
    expect(twin.endpoint.stats()).toMatchObject({ bytes: 200 });
  });
});
