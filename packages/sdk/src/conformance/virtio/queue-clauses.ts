import { Desc, Feature } from "../../virtio/spec.ts";
import type { Clause } from "./clause.ts";
import { type Arrangement, violated } from "./clause-driver.ts";

const arranged = (section: string, says: string, arrangement: Arrangement, needs?: number): Clause => ({
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

/** Clauses about split virtqueues, on whatever a device of any kind answers. */
export const queueClauses: readonly Clause[] = [
  arranged(
    "2.7.5.1",
    "a device MUST NOT write to a device-readable buffer, or to any descriptor table entry",
    "plain",
  ),
  arranged(
    "2.7.4.1",
    "the device MUST NOT make assumptions about the particular arrangement of descriptors",
    "pieces",
  ),
  arranged("2.7.5.3", "the device handles indirect descriptors it offers", "indirect", Feature.INDIRECT_DESC),
  arranged(
    "2.7.5.3.2",
    "the device MUST ignore the write-only flag in the descriptor that refers to an indirect table",
    "writeFlaggedTable",
    Feature.INDIRECT_DESC,
  ),
  arranged(
    "2.7.5.3.2",
    "the device MUST handle normal chained descriptors followed by a single indirect one",
    "mixed",
    Feature.INDIRECT_DESC,
  ),
  {
    section: "2.7.8.2",
    says: "the device MUST write at least len bytes, beginning at the first device-writable buffer",
    run: async ({ start, probe, skip }) => {
      if (probe.writable === 0) skip("a device of this kind writes nothing");
      const driver = await start();
      // Long enough that a byte which stays what it was twice, under two fillings, has not been written.
      const { answer, written } = await driver.request(probe);
      const again = await driver.request(probe, "pieces");
      const untouched = (bytes: Uint8Array): number => {
        let count = 0;
        for (let i = bytes.length - 1; i >= 0 && bytes[i] === UNTOUCHED; i--) count++;
        return count;
      };
      for (const [bytes, length] of [
        [answer, written],
        [again.answer, again.written],
      ] as const) {
        const least = bytes.length - untouched(bytes);
        if (length > least + CHANCE) violated(`len ${length}, but only ${least} bytes were written`);
      }
    },
  },
  {
    section: "2.7.7.2",
    says: "without EVENT_IDX the device MUST send a notification where flags is 0, and SHOULD NOT where it is 1",
    run: async ({ target, start, probe }) => {
      const driver = await start({ without: [Feature.EVENT_IDX] });
      const ring = driver.ring(probe.queue);
      ring.setUsedEvent(1000); // must be ignored
      await driver.request(probe);
      if (!(await target.until(() => target.interrupts(probe.queue) > 0))) violated("no notification came");
      ring.setAvailFlags(1);
      const before = target.interrupts(probe.queue);
      for (let i = 0; i < SUPPRESSED; i++) await driver.request(probe);
      await target.linger();
      const came = target.interrupts(probe.queue) - before;
      if (came > SUPPRESSED / 2) violated(`SHOULD: ${came} notifications came although flags is 1`);
    },
  },
  {
    section: "2.7.7.2",
    says: "with EVENT_IDX the device MUST send a notification for the buffer at used_event, and MUST ignore flags",
    run: async ({ target, start, probe, skip }) => {
      const driver = await start();
      if (!driver.has(Feature.EVENT_IDX)) skip("EVENT_IDX is not offered");
      const ring = driver.ring(probe.queue);
      ring.setAvailFlags(1); // must be ignored
      ring.setUsedEvent(0);
      await driver.request(probe);
      if (!(await target.until(() => target.interrupts(probe.queue) > 0))) violated("no notification came");
      const before = target.interrupts(probe.queue);
      ring.setUsedEvent(1 + SUPPRESSED);
      for (let i = 0; i < SUPPRESSED; i++) await driver.request(probe);
      await target.linger();
      const came = target.interrupts(probe.queue) - before;
      if (came > SUPPRESSED / 2) violated(`SHOULD: ${came} notifications came before used_event`);
      await driver.request(probe);
      if (!(await target.until(() => target.interrupts(probe.queue) > before + came))) {
        violated("no notification came at used_event");
      }
    },
  },
  {
    section: "2.7.10.2",
    says: "without EVENT_IDX the device MUST set flags to 0 or 1",
    run: async ({ start, probe }) => {
      const driver = await start({ without: [Feature.EVENT_IDX] });
      await driver.request(probe);
      const flags = driver.ring(probe.queue).usedFlags;
      if (flags > 1) violated(`flags ${flags}`);
    },
  },
  {
    section: "2.7.10.2",
    says: "with EVENT_IDX the device MUST set flags to 0",
    run: async ({ start, probe, skip }) => {
      const driver = await start();
      if (!driver.has(Feature.EVENT_IDX)) skip("EVENT_IDX is not offered");
      await driver.request(probe);
      const flags = driver.ring(probe.queue).usedFlags;
      if (flags !== 0) violated(`flags ${flags}`);
    },
  },
  {
    section: "2.7.10.2",
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
    section: "2.7.13",
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
  {
    section: "2.7.5",
    says: "the device uses a buffer of a descriptor table only as long as the ring says",
    run: async ({ start, probe }) => {
      const driver = await start();
      const offered = driver.offer(probe);
      await driver.finish(offered);
      // The descriptors behind the chain are not the device's business, whatever they say.
      const ring = driver.ring(probe.queue);
      const behind = ring.addresses.desc + Desc.LENGTH * (ring.size - 1);
      driver.target.memory.writeU32(behind + Desc.LEN, 0xffff_ffff);
      await driver.request(probe);
    },
  },
];

/** Requests without a notification: one may still come for a request of before. */
const SUPPRESSED = 16;
/** What `ClauseDriver` fills buffers with. */
const UNTOUCHED = 0x5a;
/** Bytes that a device may have written with just that value. */
const CHANCE = 4;
