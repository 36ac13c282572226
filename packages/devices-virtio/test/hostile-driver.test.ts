import { FakeMemory, VirtioBench, type VirtioBenchOptions } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type DrivenDevice, drivenDevices } from "./driven-devices.ts";

/** More runs than CI has time for: `NORTHBRIDGE_HOSTILE_RUNS=100000 NORTHBRIDGE_SEED=random`. */
const environment =
  (globalThis as { process?: { env: Record<string, string | undefined> } }).process?.env ?? {};
const RUNS = Number(environment["NORTHBRIDGE_HOSTILE_RUNS"] ?? 100);
const TIMEOUT_MS = 3_600_000;
const MOST_OPS = 60;

// Valid requests slightly broken: uniform bytes are refused at the first look.
const value = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 4, 8, 16, 0x40, 0x80, 0x8000, 0xffff, 0x1000),
  fc.nat(0xffff),
);

const op = ({ head, lengths }: DrivenDevice) =>
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant("add" as const),
        queue: fc.nat(8),
        head,
        buffers: fc.array(fc.tuple(fc.constantFrom(...lengths), fc.boolean()), {
          minLength: 1,
          maxLength: 4,
        }),
        indirect: fc.boolean(),
        notify: fc.boolean(),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("poke" as const), queue: fc.nat(8), at: fc.nat(200), value }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("notify" as const), queue: fc.nat(9) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("act" as const), choice: fc.nat(5000) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("status" as const),
        value: fc.constantFrom(0, 1, 3, 7, 11, 15, 0x8f, 0xff),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("config" as const), offset: fc.nat(64), value }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("reset" as const), queue: fc.nat(8) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("save" as const) }) },
  );

/** Layouts of the rings. */
const RINGS = [{ packed: false }, { packed: true }, { packed: false, inOrder: true }];
type Rings = Pick<VirtioBenchOptions, "packed" | "inOrder">;

describe.each(drivenDevices)("a hostile driver of $name", (driven) => {
  it.each(RINGS)(
    "is never obeyed beyond its buffers (%o)",
    async (ringKind) => {
      await fc.assert(
        fc.asyncProperty(fc.boolean(), fc.array(op(driven), { maxLength: MOST_OPS }), async (pokes, all) => {
          const ops = all.filter((o) => pokes || o.do !== "poke");
          const memory = new FakeMemory(1 << 20);
          const { device, act } = driven.make();
          const bench = new VirtioBench(device, { memory, ...ringKind, queueSize: 8 }).start();
          const rings = bench.queues.map(({ addresses }) => addresses.desc);
          const arena = bench.alloc(0x20000);
          // Buffers end in the middle of their pages: what lies behind is none of the device's business.
          const canary = new Uint8Array(0x800).fill(0xa5);
          for (let page = 0; page < 16; page++) memory.write(arena + page * 0x1000 + 0x800, canary);
          let next = 0;
          for (const o of ops) {
            if (o.do === "add") {
              const index = o.queue % bench.queues.length;
              const place = (isWritable: boolean) =>
                o.buffers
                  .filter(([, writable]) => writable === isWritable)
                  .map(([length]) => ({ gpa: arena + (next++ % 16) * 0x1000, length }));
              const [readable, writable] = [place(false), place(true)];
              const [first] = readable;
              if (first !== undefined)
                memory.write(first.gpa, Uint8Array.from(o.head).subarray(0, first.length));
              const indirect = o.indirect ? arena + 0x10000 + (next % 16) * 64 : undefined;
              bench.queues[index]!.add(readable, writable, indirect);
              if (o.notify) bench.endpoint.notify(index);
            } else if (o.do === "poke") memory.writeU16(rings[o.queue % rings.length]! + 2 * o.at, o.value);
            else if (o.do === "notify") bench.endpoint.notify(o.queue);
            else if (o.do === "act") act?.(o.choice);
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
        { numRuns: RUNS },
      );
    },
    TIMEOUT_MS,
  );
});

// A vsock device's streams do not outlive a restore, and the driver is told so.
describe.each(drivenDevices.filter(({ name }) => name !== "vsock"))(
  "a save and restore of $name",
  (driven) => {
    const request = fc.record({
      queue: fc.nat(8),
      head: driven.head,
      readable: fc.subarray([51, 512, 40], { minLength: 0 }),
      writable: fc.subarray([512, 108, 20, 1], { minLength: 0 }),
      kick: fc.boolean(),
      saveAfter: fc.boolean(),
    });
    type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;

    const settle = async (): Promise<void> => {
      for (let i = 0; i < 100; i++) await Promise.resolve(); // a request of 31 ranges takes its time
    };

    /** What a driver sees of a device that is replaced by its restored twin wherever the requests say so. */
    async function run(requests: readonly Request[], rings: Rings, mayReplace: boolean) {
      const memory = new FakeMemory(1 << 18);
      const first = new VirtioBench(driven.make().device, { memory, ...rings, queueSize: 8 }).start();
      const seen: unknown[] = [];
      let bench = first;
      for (const { queue, head, readable, writable, kick, saveAfter } of requests) {
        const index = queue % first.queues.length;
        const driver = first.queues[index]!;
        const place = (lengths: readonly number[]) =>
          lengths.map((length) => ({ gpa: first.alloc(length), length }));
        const parts = place(readable);
        const [start] = parts;
        if (start !== undefined) memory.write(start.gpa, Uint8Array.from(head).subarray(0, start.length));
        driver.add(parts, place(writable));
        if (kick && driver.needsNotification()) bench.endpoint.notify(index);
        await settle();
        if (saveAfter && mayReplace) {
          await bench.endpoint.pause();
          const state = JSON.parse(JSON.stringify(bench.endpoint.save())) as ReturnType<
            typeof bench.endpoint.save
          >;
          const twin = new VirtioBench(driven.make().device, { memory, ...rings, queueSize: 8 });
          twin.endpoint.restore(state);
          expect([...twin.interrupts, twin.configInterrupts]).toEqual([...first.queues.map(() => 0), 0]);
          expect(twin.endpoint.save()).toEqual(state);
          bench = twin;
        }
        // Both go on as a machine does: whatever waits in a queue is looked at.
        bench.endpoint.resume();
        await settle();
        seen.push([bench.endpoint.status, ...first.queues.map((each) => each.collect())]);
      }
      return { seen, sum: first.bytes(0, 1 << 18).reduce((sum, byte) => (Math.imul(sum, 31) + byte) | 0, 0) };
    }

    it.each(RINGS)(
      "changes nothing a driver sees, between any two requests (%o)",
      async (rings) => {
        await fc.assert(
          fc.asyncProperty(fc.array(request, { maxLength: 20 }), async (requests) => {
            expect(await run(requests, rings, true)).toEqual(await run(requests, rings, false));
          }),
          { numRuns: Math.ceil(RUNS / 8) },
        );
      },
      TIMEOUT_MS,
    );
  },
);
