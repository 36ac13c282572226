import { FakeMemory, VirtioBench } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { RUNS, tell, TIMEOUT_MS } from "./campaign.ts";
import { buffersOf, type DrivenDevice, drivenDevices } from "./driven/index.ts";
import { type Rings, RINGS } from "./rings.ts";

const MOST_STEPS = 25;
const MEMORY = 1 << 18;
// Used again and again: of shared memory a collector does not know how much it is.
const bytes = new Uint8Array(new SharedArrayBuffer(MEMORY));

const step = (driven: DrivenDevice) =>
  fc.record({
    request: fc.option(fc.record({ queue: fc.nat(8), head: driven.head, buffers: buffersOf(driven, 2) }), {
      freq: 4,
    }),
    isIndirect: fc.boolean(),
    kick: fc.boolean(),
    act: fc.option(fc.nat(5000)),
    collect: fc.boolean(),
    saveAfter: fc.boolean(),
  });
type Step = ReturnType<typeof step> extends fc.Arbitrary<infer T> ? T : never;

/** Long enough for a request of many parts. */
async function settle(): Promise<void> {
  for (let i = 0; i < 100; i++) await Promise.resolve();
}

let saves = 0;
let inFlight = 0;

/** What a driver sees of a device, which a twin replaces wherever the steps say so and `mayReplace` does. */
async function run(
  driven: DrivenDevice,
  steps: readonly Step[],
  rings: Rings,
  mayReplace: boolean,
): Promise<unknown> {
  const memory = new FakeMemory(bytes.fill(0));
  const host = driven.host();
  const driver = new VirtioBench(host.device(), { memory, ...rings, queueSize: 8 }).start();
  const seen: unknown[] = [];
  const interrupts = driver.queues.map(() => 0);
  let config = 0;
  let bench = driver;
  for (const { request, isIndirect, kick, act, collect, saveAfter } of steps) {
    if (request !== null) {
      const { queue, head, buffers } = request;
      const [readable, writable] = buffers;
      const place = (lengths: readonly number[]) =>
        lengths.map((length) => ({ gpa: driver.alloc(length), length }));
      const parts = place(readable);
      const [start] = parts;
      if (start !== undefined) memory.write(start.gpa, Uint8Array.from(head).subarray(0, start.length));
      const index = queue % driver.queues.length;
      driver.queue(index).add(parts, place(writable), isIndirect ? driver.alloc(64 + 32) : undefined);
      if (kick && driver.queue(index).needsNotification()) bench.endpoint.notify(index);
    }
    if (act !== null) host.act?.(act);
    await settle();
    // A machine that pauses and goes on is the measure; only one of the two runs is restored meanwhile.
    if (saveAfter) {
      await bench.endpoint.pause();
      if (mayReplace) {
        const state = JSON.parse(JSON.stringify(bench.endpoint.save())) as ReturnType<
          typeof bench.endpoint.save
        >;
        saves++;
        inFlight += state.queues.reduce((sum, { queue }) => sum + (queue?.inFlight.length ?? 0), 0);
        interrupts.forEach((count, index) => (interrupts[index] = count + (bench.interrupts[index] ?? 0)));
        config += bench.configInterrupts;
        const twin = new VirtioBench(host.device(), { memory, ...rings, queueSize: 8 });
        twin.endpoint.restore(state);
        expect([...twin.interrupts, twin.configInterrupts]).toEqual([...interrupts.map(() => 0), 0]);
        expect(twin.endpoint.save()).toEqual(state);
        bench = twin;
      }
      bench.endpoint.resume();
      await settle();
    }
    const { endpoint } = bench;
    const registers = Array.from({ length: endpoint.device.config.length }, (_, at) =>
      endpoint.readConfig(at, 1),
    );
    seen.push([
      endpoint.status,
      registers,
      interrupts.map((count, index) => count + (bench.interrupts[index] ?? 0)),
      config + bench.configInterrupts,
      collect ? driver.queues.map((each) => each.collect()) : [],
    ]);
  }
  return { seen, sum: bytes.reduce((sum, byte) => (Math.imul(sum, 31) + byte) | 0, 0) };
}

// A vsock device's streams do not outlive a restore, and the driver is told so: see `virtio-vsock.test.ts`.
describe.each(drivenDevices.filter(({ name }) => name !== "vsock"))(
  "a save and restore of $name",
  (driven) => {
    afterAll(() => {
      tell(`${driven.name}: ${saves} saves, ${inFlight} requests in flight in them`);
      saves = inFlight = 0;
    });

    it.each(RINGS)(
      "changes nothing a driver sees, between any two requests (%o)",
      async (rings) => {
        const steps = fc.array(step(driven), { maxLength: MOST_STEPS, size: "max" });
        await fc.assert(
          fc.asyncProperty(steps, async (all) => {
            expect(await run(driven, all, rings, true)).toEqual(await run(driven, all, rings, false));
          }),
          { numRuns: Math.ceil(RUNS / 4) },
        );
      },
      TIMEOUT_MS,
    );
  },
);
