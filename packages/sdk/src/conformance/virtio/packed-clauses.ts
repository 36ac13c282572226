import { Feature } from "../../virtio/spec.ts";
import type { Clause } from "./clause.ts";
import { violated } from "./clause-driver.ts";

/** Flags of an event suppression structure (virtio 1.3 §2.8.14). */
const Event = { ENABLE: 0, DISABLE: 1, DESC: 2 } as const;
/** Requests without a notification: one may still come for a request of before. */
const SUPPRESSED = 16;

/** Clauses about packed virtqueues alone. */
export const packedClauses: readonly Clause[] = [
  {
    section: "2.8.14",
    says: "the device sends a notification where the driver's event flags are ENABLE, and SHOULD NOT where they are DISABLE",
    run: async ({ target, start, probe }) => {
      const driver = await start();
      const ring = driver.packedRing(probe.queue);
      ring.setEvent(Event.ENABLE);
      await driver.request(probe);
      if (!(await target.until(() => target.interrupts(probe.queue) > 0))) violated("no notification came");
      ring.setEvent(Event.DISABLE);
      const before = target.interrupts(probe.queue);
      for (let i = 0; i < SUPPRESSED; i++) await driver.request(probe);
      await target.linger();
      const came = target.interrupts(probe.queue) - before;
      if (came > SUPPRESSED / 2) violated(`SHOULD: ${came} notifications came although they are disabled`);
    },
  },
  {
    section: "2.8.14",
    says: "with EVENT_IDX the device sends a notification for the descriptor that the driver's event structure names",
    run: async ({ target, start, probe, skip }) => {
      const driver = await start();
      if (!driver.has(Feature.EVENT_IDX)) skip("EVENT_IDX is not offered");
      const ring = driver.packedRing(probe.queue);
      const slots = (probe.readable.length > 0 ? 1 : 0) + (probe.writable > 0 ? 1 : 0);
      // Twice round the ring: the wrap counter of the event is part of its name.
      for (let lap = 0; lap < 2 * Math.ceil(ring.size / (slots * SUPPRESSED)); lap++) {
        ring.setEvent(Event.DESC, slots * (SUPPRESSED - 1));
        const before = target.interrupts(probe.queue);
        for (let i = 0; i < SUPPRESSED - 1; i++) await driver.request(probe);
        await target.linger();
        const early = target.interrupts(probe.queue) - before;
        if (early > SUPPRESSED / 2) violated(`SHOULD: ${early} notifications came before the event`);
        await driver.request(probe);
        if (!(await target.until(() => target.interrupts(probe.queue) > before + early)))
          violated(`no notification came at the event, lap ${lap}`);
      }
    },
  },
  {
    section: "2.8.14",
    says: "the device's event flags are ENABLE or DISABLE without EVENT_IDX, and never reserved ones",
    run: async ({ start, probe }) => {
      const driver = await start({ without: [Feature.EVENT_IDX] });
      await driver.request(probe);
      const flags = driver.packedRing(probe.queue).deviceEventFlags;
      if (flags !== Event.ENABLE && flags !== Event.DISABLE) violated(`flags ${flags}`);
    },
  },
];
