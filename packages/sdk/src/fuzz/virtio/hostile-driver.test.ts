import type { ConfigSchema, Device, DeviceContext, DeviceEntry } from "@northbridge/core/contracts";
import fc from "fast-check";
import { expect, it } from "vitest";
import { FakeDisk } from "../../bench/fake-disk.ts";
import type { FakeMachine } from "../../testing/fake-machine.ts";
import { serve } from "../../virtio/virt-queue.ts";
import { type VirtioDevice, type VirtioSession, VirtioTransport } from "../../virtio/virtio-device.ts";
import type { DrivenVirtioDevice } from "./driven-device.ts";
import { hostileTrial } from "./hostile-campaign.ts";
import { driveHostilely } from "./hostile-driver.ts";
import type { HostileOperation } from "./hostile-operation.ts";

/** Fills what it is given. */
function filler(): VirtioDevice {
  let session: VirtioSession | undefined;
  return {
    deviceId: 4,
    features: [],
    queues: [8],
    config: new Uint8Array(0),
    start: (started) => void (session = started),
    notify: (index) => {
      const queue = session?.queue(index);
      if (queue === undefined) return;
      serve(queue, (chain) => {
        for (let at = 0; at < chain.writableBytes; at++) chain.writeU8(at, 0x5a);
        queue.push(chain, chain.writableBytes);
      });
    },
    reset: () => void (session = undefined),
    save: () => undefined,
    restore: () => undefined,
  };
}

const driven: DrivenVirtioDevice = {
  name: "filler",
  host: () => ({ device: filler }),
  head: fc.constant([]),
  lengths: [16],
  shapes: [[[16], [16]]],
};

it("has a memory of its own for each of several trials at once", async () => {
  const adds = (length: number): HostileOperation[] =>
    new Array<HostileOperation>(4).fill({
      ...{ do: "add", queue: 0, head: [1], buffers: [[16], [length]] },
      ...{ misplaced: false, indirect: false, notify: true },
    });
  const trials = [16, 512, 2048].map((length) => driveHostilely(driven, { packed: false }, adds(length)));
  expect(await Promise.all(trials)).toEqual(trials.map(() => ({ operations: 4, requests: 4 })));
});

/** A plugin with a device that copies what it is asked from a disk of the machine's. */
function copier(disk: FakeDisk): DeviceEntry {
  const attach = (ctx: DeviceContext): Device => {
    let session: VirtioSession | undefined;
    const busy = new Set<Promise<void>>();
    const over = (): Promise<void> => Promise.all(busy).then(() => undefined);
    const device: VirtioDevice = {
      ...filler(),
      start: (started) => void (session = started),
      notify: (index) => {
        const queue = session?.queue(index);
        if (queue === undefined) return;
        serve(queue, (chain) => {
          const operation = disk.read(0, chain.writable()).then(() => {
            busy.delete(operation);
            chain.written(0, chain.writableBytes);
            queue.push(chain, chain.writableBytes);
            queue.flush();
          });
          busy.add(operation);
        });
      },
      reset: () => {
        session = undefined;
        return over();
      },
      pause: over,
    };
    return ctx.get(VirtioTransport).attach(ctx, device);
  };
  return { spec: { name: "test/copier", config: anything, setup: attach }, input: {} };
}

const anything: ConfigSchema<never, never> = {
  "~standard": { version: 1, vendor: "test", validate: (value: unknown) => ({ value: value as never }) },
};
const request: HostileOperation = {
  ...{ do: "add", queue: 0, head: [1], buffers: [[16], [512]] },
  ...{ misplaced: false, indirect: false, notify: true },
};

it.each<[string, HostileOperation]>([
  ["reset", { do: "status", value: 0 }],
  ["pause", { do: "pause", resumes: false }],
])("has host ends that take guest time done before it judges a %s", async (_what, operation) => {
  const create = (): DeviceEntry => copier(slow!);
  let slow: FakeDisk | undefined;
  const prepare = (machine: FakeMachine): void => {
    slow = new FakeDisk(1 << 12, { clock: machine.clock });
    slow.latencyNs = 1000;
  };
  const done = await hostileTrial({ create, prepare }, { packed: false }, [request, operation]);
  expect(done).toEqual({ operations: 2, requests: 1 });
});
