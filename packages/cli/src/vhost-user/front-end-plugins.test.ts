import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryBlock, SlottedGuestMemory } from "@northbridge/core";
import { VirtioBlk } from "@northbridge/devices-virtio";
import { ExternalDevice, VhostUserBackend } from "@northbridge/vhost-user";
import { expect, it } from "vitest";
import { diskOptions } from "./front-end-plugins.ts";

const isHere = process.platform === "linux" && process.arch === "x64";
/** Of `struct virtio_blk_config` (virtio 1.3 §5.2.4). */
const NUM_QUEUES = 34;

it.skipIf(!isHere)("says of a disk that it has the machine's queues, not its back end's", async () => {
  const directory = mkdtempSync(join(tmpdir(), "northbridge-disk-"));
  const socket = join(directory, "disk.sock");
  const disk = new MemoryBlock(new Uint8Array(4096));
  const backend = new VhostUserBackend({
    device: new VirtioBlk({ backend: disk, serial: "d", queues: 4 }),
    createMemory: (slots, written) => new SlottedGuestMemory(slots, written),
  });
  try {
    backend.listen(socket);
    for (const queues of [1, 3]) {
      const device = await ExternalDevice.connect({ ...diskOptions(queues), socket, ram: { regions: [] } });
      expect([device.queues.length, device.config[NUM_QUEUES]]).toEqual([queues, queues]);
      device.close();
    }
  } finally {
    await backend.close();
    rmSync(directory, { recursive: true });
  }
});
