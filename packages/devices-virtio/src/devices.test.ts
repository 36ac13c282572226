import { FakeCharBackend, FakeMemory, FakeNet, VirtioBench } from "@northbridge/sdk/testing";
import type { VirtioDevice } from "@northbridge/sdk/virtio";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VirtioBalloon } from "./balloon/virtio-balloon.ts";
import { VirtioBlk } from "./blk/virtio-blk.ts";
import { VirtioConsole } from "./console/virtio-console.ts";
import { VirtioNet } from "./net/virtio-net.ts";
import { VirtioRng } from "./rng/virtio-rng.ts";

const mac = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);
const counting = {
  fill: (into: Uint8Array): void => {
    into.set(Uint8Array.from(into, (_, i) => i + 1));
  },
};
const disk = () => ({
  size: 8192,
  blockSize: 512,
  readOnly: false,
  read: () => Promise.resolve(),
  write: () => Promise.resolve(),
  flush: () => Promise.resolve(),
  writeZeroes: () => Promise.resolve(),
  close: () => Promise.resolve(),
});

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

const devices: readonly (readonly [string, () => VirtioDevice])[] = [
  ["blk", () => new VirtioBlk({ backend: disk(), serial: "x", queueSize: 8 })],
  ["rng", () => new VirtioRng({ entropy: counting })],
  ["console", () => new VirtioConsole({ backend: new FakeCharBackend() })],
  ["balloon", () => new VirtioBalloon()],
  ["net", () => new VirtioNet({ backend: new FakeNet(), mac })],
];

describe.each(devices)("a hostile driver of %s", (_name, make) => {
  // Valid requests slightly broken: uniform bytes are refused at the first look.
  const value = fc.oneof(
    fc.constantFrom(0, 1, 2, 3, 4, 8, 16, 0x40, 0x80, 0x8000, 0xffff, 0x1000),
    fc.nat(0xffff),
  );
  const op = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("add" as const),
        queue: fc.nat(2),
        type: fc.nat(14),
        lengths: fc.array(fc.tuple(fc.constantFrom(1, 12, 16, 20, 512, 2048), fc.boolean()), {
          minLength: 1,
          maxLength: 4,
        }),
        indirect: fc.boolean(),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("poke" as const), queue: fc.nat(2), at: fc.nat(200), value }),
    },
    { weight: 6, arbitrary: fc.record({ do: fc.constant("notify" as const), queue: fc.nat(3) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("status" as const),
        value: fc.constantFrom(0, 1, 3, 7, 11, 15, 0x8f, 0xff),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("config" as const), offset: fc.nat(64), value }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("reset" as const), queue: fc.nat(2) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("save" as const) }) },
  );

  it.each([false, true])("is never obeyed beyond its buffers (packed: %s)", async (packed) => {
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(op, { maxLength: 60 }), async (pokes, all) => {
        const ops = all.filter((o) => pokes || o.do !== "poke");
        const memory = new FakeMemory(1 << 20);
        const device = make();
        const bench = new VirtioBench(device, { memory, packed, queueSize: 8 }).start();
        const rings = bench.queues.map(({ addresses }) => addresses.desc);
        const arena = bench.alloc(0x20000);
        // Buffers end in the middle of their pages: what lies behind is none of the device's business.
        const canary = new Uint8Array(0x800).fill(0xa5);
        for (let page = 0; page < 16; page++) memory.write(arena + page * 0x1000 + 0x800, canary);
        let next = 0;
        for (const o of ops) {
          if (o.do === "add") {
            const queue = bench.queues[o.queue % bench.queues.length]!;
            const place = (isWritable: boolean) =>
              o.lengths
                .filter(([, writable]) => writable === isWritable)
                .map(([length]) => ({ gpa: arena + (next++ % 16) * 0x1000, length }));
            const [readable, writable] = [place(false), place(true)];
            if (readable[0] !== undefined) memory.writeU32(readable[0].gpa, o.type);
            queue.add(readable, writable, o.indirect ? arena + 0x10000 + (next % 16) * 64 : undefined);
          } else if (o.do === "poke") memory.writeU16(rings[o.queue % rings.length]! + 2 * o.at, o.value);
          else if (o.do === "notify") bench.endpoint.notify(o.queue);
          else if (o.do === "status") bench.endpoint.setStatus(o.value);
          else if (o.do === "config") bench.endpoint.writeConfig(o.offset, 2, o.value);
          else if (o.do === "reset") bench.endpoint.resetQueue(o.queue);
          else JSON.stringify(bench.endpoint.save());
          if (next % 4 === 0) await Promise.resolve();
        }
        const { requests = 0 } = bench.endpoint.stats();
        expect(requests).toBeLessThan(16 * (ops.length + 1));
        bench.endpoint.setStatus(0);
        // A reset completes once no host operation touches guest memory any more.
        for (let i = 0; i < 1000 && bench.endpoint.status !== 0; i++) await Promise.resolve();
        expect(bench.endpoint.status).toBe(0);
        if (ops.some((o) => o.do === "poke")) return; // then buffers may be anywhere
        for (let page = 0; page < 16; page++) {
          expect(memory.view(arena + page * 0x1000 + 0x800, 0x800)).toEqual(canary);
        }
      }),
      { numRuns: 150 },
    );
  });
});

describe.each(devices)("a save and restore of %s", (_name, make) => {
  const request = fc.record({
    queue: fc.nat(2),
    type: fc.constantFrom(0, 1, 4, 8, 13),
    readable: fc.subarray([16, 512, 40], { minLength: 0 }),
    writable: fc.subarray([512, 20, 1], { minLength: 0 }),
    kick: fc.boolean(),
    saveAfter: fc.boolean(),
  });
  type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;

  /** What a driver sees of a device that is replaced by its restored twin wherever the requests say so. */
  async function run(requests: readonly Request[], packed: boolean, mayReplace: boolean) {
    const memory = new FakeMemory(1 << 18);
    const first = new VirtioBench(make(), { memory, packed, queueSize: 8 }).start();
    const seen: unknown[] = [];
    let bench = first;
    for (const { queue, type, readable, writable, kick, saveAfter } of requests) {
      const driver = first.queues[queue % first.queues.length]!;
      const place = (lengths: readonly number[]) =>
        lengths.map((length) => ({ gpa: first.alloc(length), length }));
      const header = place(readable);
      if (header[0] !== undefined) memory.writeU32(header[0].gpa, type);
      driver.add(header, place(writable));
      if (kick && driver.needsNotification()) bench.endpoint.notify(queue % first.queues.length);
      for (let i = 0; i < 100; i++) await Promise.resolve(); // a request of 31 ranges takes its time
      if (saveAfter && mayReplace) {
        await bench.endpoint.pause();
        const state = JSON.parse(JSON.stringify(bench.endpoint.save())) as ReturnType<
          typeof bench.endpoint.save
        >;
        const twin = new VirtioBench(make(), { memory, packed, queueSize: 8 });
        twin.endpoint.restore(state);
        expect([...twin.interrupts, twin.configInterrupts]).toEqual([...first.queues.map(() => 0), 0]);
        expect(twin.endpoint.save()).toEqual(state);
        bench = twin;
      }
      // Both go on as a machine does: whatever waits in a queue is looked at.
      bench.endpoint.resume();
      for (let i = 0; i < 100; i++) await Promise.resolve(); // a request of 31 ranges takes its time
      seen.push([bench.endpoint.status, ...first.queues.map((each) => each.collect())]);
    }
    return { seen, sum: first.bytes(0, 1 << 18).reduce((sum, byte) => (Math.imul(sum, 31) + byte) | 0, 0) };
  }

  it.each([false, true])(
    "changes nothing a driver sees, between any two requests (packed: %s)",
    async (packed) => {
      await fc.assert(
        fc.asyncProperty(fc.array(request, { maxLength: 20 }), async (requests) => {
          expect(await run(requests, packed, true)).toEqual(await run(requests, packed, false));
        }),
        { numRuns: 20 },
      );
    },
  );
});
