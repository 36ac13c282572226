import { Feature } from "../../virtio/spec.ts";
import type { Clause } from "./clause.ts";
import { type Arrangement, violated } from "./clause-driver.ts";

/** A clause that holds where requests are answered whatever the arrangement of their descriptors. */
export const arranged = (
  section: string,
  says: string,
  arrangement: Arrangement,
  needs?: number,
): Clause => ({
  section,
  says,
  run: async ({ start, probe, skip }) => {
    const driver = await start();
    if (needs !== undefined && !driver.has(needs)) skip("the feature is not offered");
    await driver.request(probe);
    await driver.request(probe, arrangement);
    await driver.request(probe);
  },
});

/** Requests after which a device that only seems to keep its counters has lost them. */
const LAPS = 3;
/** Bytes that a device may have written with just the value that buffers were filled with. */
const CHANCE = 4;

/** Clauses about virtqueues of either layout, on whatever a device of any kind answers. */
export const queueClauses = (packed: boolean): readonly Clause[] => [
  arranged(
    packed ? "2.8.5" : "2.7.5.1",
    "a device MUST NOT write to a device-readable buffer, or to any descriptor table entry",
    "plain",
  ),
  arranged(
    packed ? "2.8.4" : "2.7.4.1",
    "the device MUST NOT make assumptions about the particular arrangement of descriptors",
    "pieces",
  ),
  arranged(
    packed ? "2.8.7" : "2.7.5.3",
    "the device handles indirect descriptors it offers",
    "indirect",
    Feature.INDIRECT_DESC,
  ),
  {
    section: packed ? "2.8.6" : "2.7.8.2",
    says: "the device MUST write at least len bytes, beginning at the first device-writable buffer",
    run: async ({ start, probe, skip }) => {
      if (probe.writable === 0) skip("a device of this kind writes nothing");
      const driver = await start();
      const first = await driver.request(probe);
      const filled = driver.filling;
      driver.filling = ~filled & 0xff;
      const again = await driver.request(probe, "pieces");
      // A byte that stays what it was twice, under two fillings, has not been written.
      const length = Math.min(first.written, again.written);
      const untouched = first.answer
        .subarray(0, length)
        .filter((byte, at) => byte === filled && again.answer[at] === driver.filling).length;
      if (untouched > CHANCE) violated(`len ${length}, of which ${untouched} bytes were not written`);
    },
  },
  {
    section: packed ? "2.8.14" : "2.7.10.2",
    says: "the device MUST handle spurious notifications from the driver",
    run: async ({ target, start, probe }) => {
      const driver = await start();
      for (let i = 0; i < 20; i++) target.notify(probe.queue);
      await target.linger();
      if (driver.ring(probe.queue).usedIdx !== 0) violated("a buffer was used that had not been offered");
      await driver.request(probe);
      for (let i = 0; i < 20; i++) target.notify(probe.queue);
      await driver.request(probe);
    },
  },
  {
    section: packed ? "2.8.22" : "2.7.13",
    says: "the device goes around the rings, and uses buffers that were offered together",
    run: async ({ target, start, probe }) => {
      const driver = await start();
      const ring = driver.ring(probe.queue);
      for (let i = 0; i < LAPS * ring.size; i++) await driver.request(probe);
      const together = Array.from({ length: 4 }, () => driver.offer(probe, "plain", true));
      const before = ring.usedIdx;
      target.notify(probe.queue);
      if (!(await target.until(() => ((ring.usedIdx - before) & 0xffff) === together.length))) {
        violated("not all of the buffers that were offered together were used");
      }
      const heads = together.map((_, i) => ring.used(before + i).id).sort((a, b) => a - b);
      const expected = together.map(({ head }) => head).sort((a, b) => a - b);
      if (heads.join() !== expected.join())
        violated(`used heads ${heads.join()}, expected ${expected.join()}`);
    },
  },
];
