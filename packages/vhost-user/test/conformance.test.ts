import { socketPair } from "@northbridge/linux";
import { inProcessTarget, vhostUserConformance, virtioConformance } from "@northbridge/sdk/conformance";
import { describe, it } from "vitest";
import { hostWire, VhostUserTarget } from "../src/conformance/index.ts";
import { FrontEnd } from "../src/frontend/front-end.ts";
import { VhostUserBackend } from "../src/index.ts";
import { createMemory, devices, pmem } from "./devices.ts";

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
