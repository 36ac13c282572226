import { Desc, Feature } from "../../virtio/spec.ts";
import type { Clause } from "./clause.ts";
import { violated } from "./clause-driver.ts";
import { arranged } from "./queue-clauses.ts";

/** Requests without a notification: one may still come for a request of before. */
const SUPPRESSED = 16;

/** Clauses about split virtqueues alone. */
export const splitClauses: readonly Clause[] = [
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
    section: "2.7.7.2",
    says: "without EVENT_IDX the device MUST send a notification where flags is 0, and SHOULD NOT where it is 1",
    run: async ({ target, start, probe }) => {
      const driver = await start({ without: [Feature.EVENT_IDX] });
      const ring = driver.splitRing(probe.queue);
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
      const ring = driver.splitRing(probe.queue);
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
      const flags = driver.splitRing(probe.queue).usedFlags;
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
      const flags = driver.splitRing(probe.queue).usedFlags;
      if (flags !== 0) violated(`flags ${flags}`);
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
      const ring = driver.splitRing(probe.queue);
      const behind = ring.addresses.desc + Desc.LENGTH * (ring.size - 1);
      driver.target.memory.writeU32(behind + Desc.LEN, 0xffff_ffff);
      await driver.request(probe);
    },
  },
];
