import { DeviceId } from "../../virtio/spec.ts";
import type { Clause } from "./clause.ts";
import { blockClauses, blockProbe } from "./block-clauses.ts";
import { violated } from "./clause-driver.ts";
import type { ProbeRequest } from "./target.ts";

const bytes = (length: number): Uint8Array => new Uint8Array(length);

/** struct virtio_net_hdr of VERSION_1, and a frame to everybody of an experimental type. */
function netFrame(): Uint8Array {
  const frame = bytes(12 + 60);
  frame.fill(0xff, 12, 18);
  frame.set([0x02, 0, 0, 0, 0, 1, 0x88, 0xb5], 18);
  return frame;
}

/** REPORT LUNS, which every target answers (SPC-4 §6.33), to LUN 0 of target 0 (virtio 1.3 §5.6.6.1). */
function reportLuns(): Uint8Array {
  const request = bytes(51);
  request.set([1, 0, 0x40, 0], 0);
  request[19] = 0xa0;
  request[28] = 16;
  return request;
}

/** FUSE_INIT, which every server answers: struct fuse_in_header and fuse_init_in of linux/fuse.h, version 7.31. */
function fuseInit(): Uint8Array {
  const request = bytes(56);
  const view = new DataView(request.buffer);
  view.setUint32(0, request.length, true);
  view.setUint32(4, 26, true);
  view.setUint32(8, 1, true);
  view.setUint32(40, 7, true);
  view.setUint32(44, 31, true);
  return request;
}

/** VIRTIO_VSOCK_OP_RST of a connection that is none, to the host (§5.10.6). */
function vsockReset(): Uint8Array {
  const packet = bytes(44);
  packet[8] = 2;
  packet[28] = 1;
  packet[30] = 3;
  return packet;
}

/** What a device of each kind always completes; a device without one needs its own for the suite. */
export const PROBES: Readonly<Record<number, ProbeRequest>> = {
  [DeviceId.NET]: { queue: 1, readable: netFrame(), writable: 0 },
  [DeviceId.BLOCK]: blockProbe,
  [DeviceId.CONSOLE]: { queue: 1, readable: Uint8Array.of(0x6f, 0x6b, 0x0a), writable: 0 },
  [DeviceId.RNG]: {
    queue: 0,
    readable: bytes(0),
    writable: 256,
    check: (_answer, written) => (written === 0 ? "no random byte came (§5.4.6.2)" : undefined),
  },
  [DeviceId.BALLOON]: { queue: 0, readable: Uint8Array.of(0, 2, 0, 0), writable: 0 },
  [DeviceId.FS]: { queue: 1, readable: fuseInit(), writable: 80 },
  [DeviceId.VSOCK]: { queue: 1, readable: vsockReset(), writable: 0 },
  [DeviceId.SCSI]: { queue: 2, readable: reportLuns(), writable: 108 + 16 },
  [DeviceId.INPUT]: { queue: 1, readable: bytes(8), writable: 0 },
};

const netClauses: readonly Clause[] = [
  {
    section: "5.1.4.1",
    says: "the device MUST set mtu to between 68 and 65535, if it offers VIRTIO_NET_F_MTU",
    run: async ({ target, skip }) => {
      const config = await target.config(12);
      if (config === undefined || !target.offered.has(3)) skip("the device offers no MTU");
      const mtu = (config?.[10] ?? 0) | ((config?.[11] ?? 0) << 8);
      if (mtu < 68) violated(`mtu ${mtu}`);
    },
  },
  {
    section: "5.1.4.1",
    says: "the device MUST set max_virtqueue_pairs to between 1 and 0x8000, if it offers VIRTIO_NET_F_MQ",
    run: async ({ target, skip }) => {
      const config = await target.config(12);
      if (config === undefined || !target.offered.has(22)) skip("the device offers no multiqueue");
      const pairs = (config?.[8] ?? 0) | ((config?.[9] ?? 0) << 8);
      if (pairs < 1 || pairs > 0x8000) violated(`max_virtqueue_pairs ${pairs}`);
    },
  },
];

const entropyClauses: readonly Clause[] = [
  {
    section: "5.4.6.2",
    says: "the device MUST place one or more random bytes into the buffer",
    run: async ({ start, probe }) => {
      const driver = await start();
      const answers = [await driver.request(probe), await driver.request(probe, "pieces")];
      const texts = answers.map(({ answer, written }) => answer.subarray(0, written).join());
      if (texts[0] === texts[1]) violated("the same bytes came twice");
    },
  },
];

const KINDS: Readonly<Record<number, readonly Clause[]>> = {
  [DeviceId.NET]: netClauses,
  [DeviceId.BLOCK]: blockClauses,
  [DeviceId.RNG]: entropyClauses,
};

/** Clauses of §5 about devices of one kind. */
export const kindClauses = (deviceId: number): readonly Clause[] => KINDS[deviceId] ?? [];
