import { DeviceId } from "../../virtio/spec.ts";
import type { Clause } from "./clause.ts";
import { blockClauses, blockProbe } from "./block-clauses.ts";
import { violated } from "./clause-driver.ts";
import { consoleClauses } from "./console-clauses.ts";
import { scsiClauses, scsiProbe } from "./scsi-clauses.ts";
import type { ProbeRequest } from "./target.ts";
import { vsockClauses, vsockProbe } from "./vsock-clauses.ts";

const bytes = (length: number): Uint8Array => new Uint8Array(length);

/** struct virtio_net_hdr of VERSION_1, and a frame to everybody of an experimental type. */
function netFrame(): Uint8Array {
  const frame = bytes(12 + 60);
  frame.fill(0xff, 12, 18);
  frame.set([0x02, 0, 0, 0, 0, 1, 0x88, 0xb5], 18);
  return frame;
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
  [DeviceId.VSOCK]: vsockProbe,
  [DeviceId.SCSI]: scsiProbe,
  [DeviceId.INPUT]: { queue: 1, readable: bytes(8), writable: 0 },
  [DeviceId.PMEM]: {
    queue: 0,
    readable: bytes(4), // VIRTIO_PMEM_REQ_TYPE_FLUSH
    writable: 4,
    check: (answer) => (answer.some((byte) => byte !== 0) ? `ret ${answer.join()} of a flush` : undefined),
  },
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

const balloonClauses: readonly Clause[] = [
  {
    section: "5.5.6.3.2",
    says: "the device MUST accept statistics in any order, and MUST ignore entries with tag values it does not recognize",
    run: async ({ start, probe, skip }) => {
      const driver = await start();
      if (!driver.has(1)) skip("STATS_VQ is not offered");
      const entries = [5, 0xfffe, 4].flatMap((tag) => [tag & 0xff, tag >> 8, 1, 2, 3, 4, 0, 0, 0, 0]);
      driver.offer({ queue: 2, readable: Uint8Array.from(entries), writable: 0 });
      await driver.request(probe);
    },
  },
];

const inputClauses: readonly Clause[] = [
  {
    section: "5.8.5.2",
    says: "a device MUST set the size field to zero if it does not support a given select and subsel combination",
    run: async ({ target, skip }) => {
      const config = await target.config(8);
      if (config === undefined) skip("the transport shows no configuration space");
      if (config?.[0] === 0 && config[2] !== 0) violated(`size ${config[2]} with nothing selected`);
    },
  },
  {
    section: "5.8.6",
    says: "the device uses status events of the statusq, whatever their type",
    run: async ({ start, probe }) => {
      const driver = await start();
      for (const type of [0x11, 0x12, 0x14, 0xffff]) {
        const event = Uint8Array.of(type & 0xff, type >> 8, 0, 0, 1, 0, 0, 0);
        await driver.request({ ...probe, readable: event });
      }
    },
  },
];

const fsClauses: readonly Clause[] = [
  {
    section: "5.11.4.2",
    says: "the device MUST set num_request_queues to 1 or greater",
    run: async ({ target, skip }) => {
      const config = await target.config(40);
      if (config === undefined) skip("the transport shows no configuration space");
      if (config?.subarray(36, 40).every((byte) => byte === 0) === true)
        violated("there is no request queue");
    },
  },
  {
    section: "5.11.6.1",
    says: "an answer has the length and the unique identifier of FUSE, and no more than the request has room for",
    run: async ({ start, probe }) => {
      const driver = await start();
      for (const op of [26, 0x7fff]) {
        const readable = probe.readable.slice();
        new DataView(readable.buffer).setUint32(4, op, true);
        new DataView(readable.buffer).setUint32(8, 4242, true);
        const { answer, written } = await driver.request({ ...probe, readable });
        const view = new DataView(answer.buffer, answer.byteOffset);
        if (view.getUint32(0, true) !== written) violated(`len ${view.getUint32(0, true)}, used ${written}`);
        if (view.getUint32(8, true) !== 4242) violated(`unique ${view.getUint32(8, true)}, expected 4242`);
        if (op === 0x7fff && view.getInt32(4, true) >= 0) violated("an unknown request succeeds");
      }
    },
  },
];

const pmemClauses: readonly Clause[] = [
  {
    section: "5.19.6.1",
    says: "a flush succeeds, and a request that is none does not",
    run: async ({ start, probe }) => {
      const driver = await start();
      await driver.request(probe);
      const { answer } = await driver.request({
        ...probe,
        readable: Uint8Array.of(9, 0, 0, 0),
        check: () => undefined,
      });
      if (answer.every((byte) => byte === 0)) violated("ret 0 of a request of unknown type");
    },
  },
];

const KINDS: Readonly<Record<number, readonly Clause[]>> = {
  [DeviceId.NET]: netClauses,
  [DeviceId.BLOCK]: blockClauses,
  [DeviceId.CONSOLE]: consoleClauses,
  [DeviceId.RNG]: entropyClauses,
  [DeviceId.BALLOON]: balloonClauses,
  [DeviceId.SCSI]: scsiClauses,
  [DeviceId.INPUT]: inputClauses,
  [DeviceId.VSOCK]: vsockClauses,
  [DeviceId.FS]: fsClauses,
  [DeviceId.PMEM]: pmemClauses,
};

/** Clauses of §5 about devices of one kind. */
export const kindClauses = (deviceId: number): readonly Clause[] => KINDS[deviceId] ?? [];
