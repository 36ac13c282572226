import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VirtioBlk } from "@northbridge/devices-virtio";
import { socketPair } from "@northbridge/linux";
import {
  inProcessTarget,
  vhostUserConformance,
  virtioConformance,
  type VirtioTarget,
} from "@northbridge/sdk/conformance";
import { afterAll, describe, it } from "vitest";
import { hostWire, VhostUserTarget } from "../src/conformance/index.ts";
import { FrontEnd } from "../src/frontend/front-end.ts";
import { ExternalDevice, SharedRam, VhostUserBackend } from "../src/index.ts";
import { createMemory, devices, memoryDisk, pmem } from "./devices.ts";
import { turn } from "./raw-front-end.ts";
import { sharedMemory } from "./shared-memory.ts";

describe.each(devices)("%s behind a transport", (_name, create) => {
  for (const packed of [false, true]) {
    virtioConformance(
      { describe, it },
      {
        deviceId: create().deviceId,
        packed,
        create: () => Promise.resolve(inProcessTarget(create(), { packed })),
      },
    );
  }
});

describe("VirtioPmem behind a transport", () => {
  virtioConformance(
    { describe, it },
    { deviceId: 27, create: () => Promise.resolve(inProcessTarget(pmem())) },
  );
});

const isHere = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!isHere).each(devices)(
  "%s behind a vhost-user socket (needs Linux on x86-64)",
  (name, create) => {
    // Packed rings are the same behind a socket for every kind: one disk will do.
    for (const packed of name === "VirtioBlk" ? [false, true] : [false]) {
      const connect = async (): Promise<VhostUserTarget> => {
        const device = create();
        const [ours, theirs] = socketPair();
        void new VhostUserBackend({ device, createMemory, packed }).serve(theirs);
        return VhostUserTarget.over(new FrontEnd(ours), device.queues);
      };
      virtioConformance({ describe, it }, { deviceId: create().deviceId, packed, create: connect });
    }
  },
);

// The protocol is the same for every kind: three will do.
const three = devices.filter(([name]) => ["VirtioBlk", "VirtioNet", "VirtioRng"].includes(name));
describe.skipIf(!isHere).each(three)(
  "the vhost-user socket of %s (needs Linux on x86-64)",
  (_name, create) => {
    const device = create();
    const backend = new VhostUserBackend({ device, createMemory });
    const wire = hostWire(() => {
      const [ours, theirs] = socketPair();
      void backend.serve(theirs);
      return ours;
    });
    vhostUserConformance({ describe, it }, { wire, deviceId: device.deviceId });
  },
);

// Virtio 1.3 §5.2.3, §5.2.4.
const [BLOCK, FLUSH, CONFIG_WCE] = [2, 9, 11];
/** As the command has it of a disk. */
const writeback = { name: "writeback", offset: 32, length: 1, feature: CONFIG_WCE, needs: FLUSH };

/** A machine's side of it is the same for every kind: a disk that we serve ourselves will do. */
describe.skipIf(!isHere)("a disk that another process serves (needs Linux on x86-64)", () => {
  const directory = mkdtempSync(join(tmpdir(), "northbridge-vhost-user-"));
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });
  let count = 0;
  const create = async (): Promise<VirtioTarget> => {
    const socket = join(directory, `${count++}`);
    const disk = new VirtioBlk({ backend: memoryDisk(), serial: "disk" });
    const backend = new VhostUserBackend({ device: disk, createMemory });
    backend.listen(socket);
    const memory = sharedMemory(256);
    const ram = new SharedRam(memory.slots);
    const { deviceId, queues, config } = disk;
    const options = { socket, deviceId, queues, config: config.length, ram, writable: [writeback] };
    const device = await ExternalDevice.connect(options);
    const target = inProcessTarget(device, { memory, turn });
    return {
      ...target,
      close: async () => {
        await target.close();
        device.close();
        ram.close();
        await backend.close();
      },
    };
  };
  virtioConformance({ describe, it }, { deviceId: BLOCK, create });
});
