import { VirtioBlk } from "@northbridge/devices-virtio";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { DiskBench } from "./disk-bench.ts";
import { turn } from "./raw-front-end.ts";

const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await turn();
};

/** Ends all writes, and takes what comes of it. */
async function drain(bench: DiskBench): Promise<void> {
  for (let patience = 2000; bench.underWay.size > 0 && patience > 0; patience--) {
    for (const end of bench.disk.held.splice(0)) end();
    await turn();
    bench.collect();
  }
}

type Step =
  | { readonly kind: "write"; readonly sector: number; readonly byte: number }
  | { readonly kind: "end"; readonly which: number }
  | { readonly kind: "crash" }
  | { readonly kind: "break" }
  | { readonly kind: "pause" };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      sector: fc.nat(63),
      byte: fc.integer({ min: 1, max: 255 }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("end" as const), which: fc.nat(20) }) },
  { weight: 2, arbitrary: fc.constant({ kind: "crash" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "break" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "pause" as const }) },
);

const isHere = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!isHere).each([false, true])(
  "requests in flight (packed: %s) (needs Linux on x86-64)",
  (isPacked) => {
    it("are all served, and each once, whatever dies and whenever", async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
          const bench = new DiskBench(isPacked);
          bench.newBackend();
          await bench.connect();
          const dead: (() => void)[] = [];
          const endAll = async (): Promise<void> => {
            for (const end of bench.disk.held.splice(0)) end();
            await turns(1);
          };
          for (const { kind, ...rest } of steps) {
            const {
              sector = 0,
              byte = 0,
              which = 0,
            } = rest as { sector?: number; byte?: number; which?: number };
            if (kind === "write") bench.offer(sector, byte);
            if (kind === "end") bench.disk.held.splice(which % (bench.disk.held.length + 1), 1)[0]?.();
            if (kind === "crash") {
              dead.push(...bench.crash());
              bench.newBackend();
              await bench.connect();
            }
            if (kind === "break") {
              const gone = bench.disconnect();
              await endAll();
              await endAll();
              await gone;
              await bench.connect();
            }
            if (kind === "pause") {
              const stopped = bench.stop();
              await endAll();
              await endAll();
              const base = await stopped;
              await bench.disconnect();
              await bench.connect(base);
            }
            await turns(3);
            bench.collect();
          }
          await drain(bench);
          expect(bench.underWay.size).toBe(0);
          expect(bench.disk.bytes).toEqual(bench.expected);
          // The dead may go.
          for (const end of dead) end();
          await bench.close();
        }),
        { numRuns: 40 },
      );
    });

    it("are served by a ring whose memory was gone for a while, as that of QEMU's regions that change", async () => {
      const bench = new DiskBench(isPacked);
      bench.newBackend();
      await bench.connect();
      bench.offer(0, 1);
      while (bench.disk.held.length < 1) await turn();
      const gone = bench.setMemory(false);
      await turns(3);
      for (const end of bench.disk.held.splice(0)) end();
      await gone;
      bench.offer(1, 2);
      await turns(3);
      expect(bench.disk.held).toEqual([]);
      await bench.setMemory(true);
      await drain(bench);
      bench.offer(2, 3);
      await drain(bench);
      expect([bench.used, bench.underWay.size]).toEqual([3, 0]);
      expect(bench.disk.bytes).toEqual(bench.expected);
      await bench.close();
    });

    it("are taken again in the order in which they were first", async () => {
      const bench = new DiskBench(isPacked);
      bench.newBackend();
      await bench.connect();
      for (let sector = 0; sector < 6; sector++) bench.offer(sector, sector + 1);
      while (bench.disk.held.length < 6) await turn();
      // Out of order: the second and the fifth end, the others are in flight when the back end dies.
      bench.disk.held[1]!();
      bench.disk.held[4]!();
      while (bench.used < 2) {
        await turn();
        bench.collect();
      }
      const dead = bench.crash();
      bench.newBackend();
      await bench.connect();
      while (bench.disk.held.length < 4) await turn();
      const order: number[] = [];
      for (const end of bench.disk.held.splice(0)) {
        end();
        order.push(
          [0, 2, 3, 5].find((sector) => bench.disk.bytes[sector * 512] !== 0 && !order.includes(sector))!,
        );
      }
      expect(order).toEqual([0, 2, 3, 5]);
      await drain(bench);
      expect(bench.used).toBe(6);
      for (const end of dead) end();
      await bench.close();
    });
  },
);

describe.skipIf(!isHere)("a device behind vhost-user (docs/adr/0022) (needs Linux on x86-64)", () => {
  /** How often the device was reset after `act`, of a device that had served requests. */
  const resetsAfter = async (act: (bench: DiskBench) => Promise<void>): Promise<number> => {
    const bench = new DiskBench();
    bench.newBackend();
    await bench.connect();
    for (let sector = 0; sector < 3; sector++) bench.offer(sector, 1);
    await drain(bench);
    const reset = vi.spyOn(VirtioBlk.prototype, "reset");
    try {
      await act(bench);
      return reset.mock.calls.length;
    } finally {
      reset.mockRestore();
      await turns(3);
      for (const end of bench.disk.held.splice(0)) end();
      await bench.close();
    }
  };

  it("stays as it is while its front end pauses, or loses its connection", async () => {
    const pause = async (bench: DiskBench): Promise<void> => {
      const base = await bench.stop();
      expect(base).toBe(3);
      await bench.disconnect();
      await bench.connect(base);
    };
    expect(await resetsAfter(pause)).toBe(0);
    const lose = async (bench: DiskBench): Promise<void> => {
      await bench.disconnect();
      await bench.connect();
      bench.offer(9, 9);
      await drain(bench);
      expect(bench.used).toBe(4);
    };
    expect(await resetsAfter(lose)).toBe(0);
  });

  it("is reset for a driver that starts at 0, and where it is told to", async () => {
    const startAnew = async (bench: DiskBench): Promise<void> => {
      await bench.disconnect();
      await bench.connect(0);
    };
    expect(await resetsAfter(startAnew)).toBe(1);
    expect(await resetsAfter((bench) => bench.reset())).toBe(1);
  });
});
