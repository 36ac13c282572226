import fc from "fast-check";
import { expect, it } from "vitest";
import { serve } from "../../virtio/virt-queue.ts";
import type { VirtioDevice, VirtioSession } from "../../virtio/virtio-device.ts";
import type { DrivenVirtioDevice } from "./driven-device.ts";
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
