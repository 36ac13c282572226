import { VirtioBench } from "@northbridge/sdk/testing";
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
});
