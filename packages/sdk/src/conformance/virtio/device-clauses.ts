import { FeatureSet } from "../../virtio/feature-set.ts";
import { DeviceId, Feature, Status } from "../../virtio/spec.ts";
import type { Clause } from "./clause.ts";
import { violated } from "./clause-driver.ts";

/** Which feature each feature needs, of the reserved ones and by kind of device (§2.2.1, §5.x.3.1). */
const NEEDS: Readonly<Record<number, readonly (readonly [feature: number, needs: number])[]>> = {
  [DeviceId.NET]: [
    [7, 1], // GUEST_TSO4 needs GUEST_CSUM
    [8, 1],
    [9, 7],
    [10, 1],
    [11, 0], // HOST_TSO4 needs CSUM
    [12, 0],
    [13, 11],
    [14, 0],
    [18, 17], // CTRL_RX needs CTRL_VQ
    [19, 17],
    [21, 17],
    [22, 17],
    [23, 17],
  ],
  [DeviceId.BLOCK]: [[11, 9]],
};

/** Clauses about a device as a whole. */
export const deviceClauses = (deviceId: number): readonly Clause[] => [
  {
    section: "6.2",
    says: "a device MUST offer VIRTIO_F_VERSION_1",
    run: ({ target }) => {
      if (!target.offered.has(Feature.VERSION_1)) violated("VERSION_1 is not offered");
      return Promise.resolve();
    },
  },
  {
    section: "6.2",
    says: "a device that is no PCI function with SR-IOV MUST NOT offer VIRTIO_F_SR_IOV",
    run: ({ target }) => {
      if (target.offered.has(Feature.SR_IOV)) violated("SR_IOV is offered");
      return Promise.resolve();
    },
  },
  {
    section: "2.2.1",
    says: "the device MUST NOT offer a feature which requires another feature which was not offered",
    run: ({ target }) => {
      for (const [feature, needs] of NEEDS[deviceId] ?? []) {
        if (target.offered.has(feature) && !target.offered.has(needs)) {
          violated(`feature ${feature} is offered, ${needs}, which it requires, is not`);
        }
      }
      return Promise.resolve();
    },
  },
  {
    section: "2.2.1",
    says: "the device SHOULD accept any valid subset of features the driver accepts",
    run: async ({ target, skip }) => {
      if (await target.negotiate(FeatureSet.of([Feature.VERSION_1]))) return;
      if (target.status() === undefined) skip("the transport has no other way to refuse");
      if (((target.status() ?? 0) & Status.FEATURES_OK) !== 0) violated("refused, and FEATURES_OK is set");
      violated("VERSION_1 alone is refused");
    },
  },
  {
    section: "2.1.2",
    says: "the device MUST NOT consume buffers or send any used buffer notifications before DRIVER_OK",
    run: async ({ target, start, probe }) => {
      const driver = await start({ notReady: true });
      const offered = driver.offer(probe);
      await target.linger();
      if (driver.ring(probe.queue).usedIdx !== 0) violated("a buffer was used before DRIVER_OK");
      if (target.interrupts(probe.queue) !== 0) violated("a notification came before DRIVER_OK");
      await target.driverOk();
      target.notify(probe.queue);
      await driver.finish(offered);
    },
  },
  {
    section: "2.4.1",
    says: "a device MUST reinitialize device status to 0 after receiving a reset",
    run: async ({ target, start, skip }) => {
      await start();
      if (target.status() === undefined) skip("the transport has no status");
      if (!(await target.reset())) violated("the status does not become 0");
      if (target.status() !== 0) violated(`status ${target.status()} after a reset`);
    },
  },
  {
    section: "2.4.1",
    says: "after a reset a device MUST NOT send notifications or interact with the queues until it is initialized again",
    run: async ({ target, start, probe, skip }) => {
      const driver = await start();
      await driver.request(probe);
      if (!(await target.reset())) skip("the transport cannot reset");
      const before = [driver.ring(probe.queue).usedIdx, target.interrupts(probe.queue)];
      driver.offer(probe);
      await target.linger();
      const after = [driver.ring(probe.queue).usedIdx, target.interrupts(probe.queue)];
      if (before.join() !== after.join()) violated("the device used a buffer after its reset");
    },
  },
  {
    section: "2.2.2",
    says: "the device SHOULD NOT fail re-negotiation of the same set of features after a reset",
    run: async ({ target, start, probe, skip }) => {
      await start();
      if (!(await target.reset())) skip("the transport cannot reset");
      const again = await start();
      await again.request(probe);
    },
  },
  {
    section: "2.5.2",
    says: "the device MUST allow reading of any configuration field before FEATURES_OK is set by the driver",
    run: async ({ target, start, skip }) => {
      const before = await target.config(8);
      if (before === undefined) skip("the transport shows no configuration space");
      await start();
      const after = await target.config(8);
      if (before?.join() !== after?.join())
        violated(`read ${before?.join()} before FEATURES_OK, ${after?.join()} after`);
    },
  },
];
