import { buffersOf, type Rings, RINGS } from "@northbridge/sdk/fuzz";
import { FakeMemory, VirtioBench } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RUNS, tell, TIMEOUT_MS } from "./campaign.ts";
import { type DrivenDevice, drivenDevices, settle } from "./driven/index.ts";

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
    /** What happens at the other end while the machine is paused. */
    actPaused: fc.option(fc.nat(5000)),
    order: fc.nat(5000),
  });
type Step = ReturnType<typeof step> extends fc.Arbitrary<infer T> ? T : never;

/** Saves, and of these: with requests the host had not done, the device had kept, it had not looked at. */
const counts = { saves: 0, inHost: 0, kept: 0, waiting: 0 };

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
  let [offered, taken] = [0, 0];
  let bench = driver;
  for (const { request, isIndirect, kick, act, collect, saveAfter, actPaused, order } of steps) {
    if (request !== null) {
      const { queue, head, buffers } = request;
      const [readable, writable, wanted = queue] = buffers;
      const place = (lengths: readonly number[]) =>
        lengths.map((length) => ({ gpa: driver.alloc(length), length }));
      const parts = place(readable);
      const [start] = parts;
      if (start !== undefined) memory.write(start.gpa, Uint8Array.from(head).subarray(0, start.length));
      const index = wanted % driver.queues.length;
      const table = isIndirect ? driver.alloc(64 + 32) : undefined;
      if (driver.queue(index).add(parts, place(writable), table) !== undefined) offered++;
      if (kick && driver.queue(index).needsNotification()) bench.endpoint.notify(index);
    }
    if (act !== null) host.act?.(act);
    await settle();
    // A machine that pauses and goes on is the measure; only one of the two runs is restored meanwhile.
    if (saveAfter) {
      const inHost = host.answers?.count ?? 0;
      const paused = bench.endpoint.pause();
      await host.answers?.answerAll(order);
      await paused;
      if (mayReplace) {
        const state = JSON.parse(JSON.stringify(bench.endpoint.save())) as ReturnType<
          typeof bench.endpoint.save
        >;
        counts.saves++;
        counts.inHost += Math.sign(inHost);
        counts.kept += Number(state.queues.some(({ queue }) => (queue?.inFlight.length ?? 0) > 0));
        taken += bench.endpoint.stats()["requests"] ?? 0;
        counts.waiting += Math.sign(offered - taken);
        interrupts.forEach((count, index) => (interrupts[index] = count + (bench.interrupts[index] ?? 0)));
        config += bench.configInterrupts;
        const twin = new VirtioBench(host.device(), { memory, ...rings, queueSize: 8 });
        twin.endpoint.restore(state);
        expect([...twin.interrupts, twin.configInterrupts]).toEqual([...interrupts.map(() => 0), 0]);
        expect(twin.endpoint.save()).toEqual(state);
        bench = twin;
      }
      if (actPaused !== null) host.act?.(actPaused, true);
      await settle();
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
    beforeAll(() => {
      Object.assign(counts, { saves: 0, inHost: 0, kept: 0, waiting: 0 });
    });

    afterAll(() => {
      tell(`${driven.name}: ${JSON.stringify(counts)}`);
    });

    it.each(RINGS)(
      "changes nothing a driver sees, between any two requests (%o)",
      async (rings) => {
        const steps = fc.array(step(driven), { maxLength: MOST_STEPS, size: "max" });
        await fc.assert(
          fc.asyncProperty(steps, async (all) => {
            expect(await run(driven, all, rings, true)).toEqual(await run(driven, all, rings, false));
          }),
          { numRuns: Math.ceil(RUNS / 2) },
        );
      },
      TIMEOUT_MS,
    );

    it("came while requests were wherever they can be", () => {
      for (const where of driven.underWay) expect(counts[where], where).toBeGreaterThan(0);
    });
  },
);
