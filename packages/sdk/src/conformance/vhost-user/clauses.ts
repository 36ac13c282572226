import type { Skipping, SpecClause } from "../declare-clauses.ts";
import type { ProbeRequest } from "../virtio/target.ts";
import type { ClauseDevice } from "./clause-device.ts";
import { type StartOptions } from "./clause-device.ts";
import type { ClauseFront } from "./clause-front.ts";
import { u32, u64, violated } from "./clause-front.ts";
import { FeatureBit, Flag, Protocol, Request } from "./spec.ts";
import type { VhostUserWire } from "./wire.ts";

/** What a clause's test has. What it starts is closed behind it. */
export interface VhostUserContext extends Skipping {
  readonly wire: VhostUserWire;
  readonly probe: ProbeRequest;
  readonly connect: () => Promise<ClauseFront>;
  readonly start: (options?: StartOptions) => Promise<ClauseDevice>;
}

type Clause = SpecClause<VhostUserContext>;

/** A front end that has agreed on a protocol feature; the clause is skipped where there is no such thing. */
async function withFeature(context: VhostUserContext, name: keyof typeof Protocol): Promise<ClauseFront> {
  const front = await context.connect();
  const bit = Protocol[name];
  const offered = await front.bits(Request.GET_FEATURES);
  if (offered.includes(FeatureBit.PROTOCOL_FEATURES)) await front.agree([bit]);
  if (!front.protocol.includes(bit)) context.skip(`the back end does not offer ${name}`);
  front.send(Request.SET_OWNER);
  return front;
}

const negotiation: readonly Clause[] = [
  {
    section: "Header",
    says: "a reply carries version 1, the reply flag and the number of its request",
    run: async ({ connect }) => {
      const front = await connect();
      for (const request of [Request.GET_FEATURES, Request.GET_PROTOCOL_FEATURES]) {
        const { flags } = await front.ask(request);
        if ((flags & Flag.VERSION_MASK) !== Flag.VERSION_1)
          violated(`flags 0x${flags.toString(16)}: the version`);
        if ((flags & Flag.REPLY) === 0) violated(`flags 0x${flags.toString(16)}: no reply flag`);
      }
    },
  },
  {
    section: "Front-end message types",
    says: "features are offered, and protocol features by bit 30 of them",
    run: async ({ connect }) => {
      const front = await connect();
      const offered = await front.bits(Request.GET_FEATURES);
      if (!offered.includes(FeatureBit.VERSION_1)) violated("VIRTIO_F_VERSION_1 is not offered");
      if (!offered.includes(FeatureBit.PROTOCOL_FEATURES)) violated("bit 30 is not offered");
      await front.bits(Request.GET_PROTOCOL_FEATURES);
    },
  },
  {
    section: "Communication",
    says: "a request without an answer of its own gets none where none is asked for",
    run: async ({ connect }) => {
      const front = await connect();
      await front.bits(Request.GET_FEATURES);
      front.send(Request.SET_OWNER);
      await front.bits(Request.GET_FEATURES);
    },
  },
  {
    section: "VHOST_USER_PROTOCOL_F_REPLY_ACK",
    says: "a request with the need_reply flag is acknowledged with 64 bits of zero",
    run: async (context) => {
      const front = await withFeature(context, "REPLY_ACK");
      await front.tell(Request.SET_VRING_NUM, u32(context.probe.queue, 16));
      await front.tell(Request.SET_OWNER);
    },
  },
  {
    section: "VHOST_USER_PROTOCOL_F_REPLY_ACK",
    says: "the need_reply flag changes nothing for a request that has an answer of its own",
    run: async (context) => {
      const front = await withFeature(context, "REPLY_ACK");
      const { payload } = await front.ask(Request.GET_FEATURES, undefined, [], Flag.NEED_REPLY);
      if (payload.byteLength !== 8) violated(`${payload.byteLength} bytes`);
      await front.bits(Request.GET_PROTOCOL_FEATURES);
    },
  },
  {
    section: "VHOST_USER_PROTOCOL_F_REPLY_ACK",
    says: "a failure is acknowledged with something else than zero, or ends the connection",
    run: async (context) => {
      const front = await withFeature(context, "REPLY_ACK");
      // A ring that nobody has.
      front.send(Request.SET_VRING_NUM, u32(0xfff, 16), [], Flag.NEED_REPLY);
      const reply = await front.reply(Request.SET_VRING_NUM);
      if (reply?.payload.byteLength === 8 && reply.payload.getUint32(0, true) === 0)
        violated("it says success");
    },
  },
  {
    section: "Multiple queue support",
    says: "GET_QUEUE_NUM says how many queues there are",
    run: async (context) => {
      const front = await withFeature(context, "MQ");
      const { payload } = await front.ask(Request.GET_QUEUE_NUM);
      const count = payload.byteLength === 8 ? payload.getUint32(0, true) : 0;
      // Of a network card, pairs: which number is meant, the specification leaves to the kind of device.
      if (count < 1) violated(`${count} queues`);
    },
  },
  {
    section: "VHOST_USER_GET_CONFIG",
    says: "the answer is as long as the request, or empty where there is an error",
    run: async (context) => {
      const front = await withFeature(context, "CONFIG");
      for (const length of [1, 8]) {
        const question = Uint8Array.from([...u32(0, length, 0), ...new Uint8Array(length)]);
        const { payload } = await front.ask(Request.GET_CONFIG, question);
        if (payload.byteLength !== 0 && payload.byteLength !== question.length)
          violated(`${payload.byteLength} bytes to a request of ${question.length}`);
      }
    },
  },
  {
    section: "VHOST_USER_GET_INFLIGHT_FD",
    says: "memory for what is in flight comes with its size",
    run: async (context) => {
      const front = await withFeature(context, "INFLIGHT_SHMFD");
      const question = Uint8Array.from([...u64(0, 0), 1, 0, 16, 0, 0, 0, 0, 0]);
      const { payload, fds } = await front.ask(Request.GET_INFLIGHT_FD, question);
      if (fds !== 1) violated(`${fds} descriptors`);
      if (payload.byteLength < 20 || payload.getUint32(0, true) === 0) violated("no size");
    },
  },
  {
    section: "VHOST_USER_SET_STATUS",
    says: "the device status is what the driver wrote",
    run: async (context) => {
      const front = await withFeature(context, "STATUS");
      front.send(Request.SET_STATUS, u64(3));
      const { payload } = await front.ask(Request.GET_STATUS);
      if (payload.byteLength !== 8 || payload.getUint32(0, true) !== 3)
        violated(`status 0x${payload.getUint32(0, true).toString(16)} after 3 was written`);
    },
  },
];

const rings: readonly Clause[] = [
  {
    section: "Memory regions description",
    says: "rings and buffers are found by the regions they are in, each mapped at its offset",
    run: async ({ start }) => {
      const device = await start();
      for (let i = 0; i < 3; i++) await device.request();
    },
  },
  {
    section: "VHOST_USER_ADD_MEM_REG",
    says: "regions can be added one by one, within what GET_MAX_MEM_SLOTS says",
    run: async (context) => {
      const front = await withFeature(context, "CONFIGURE_MEM_SLOTS");
      const { payload } = await front.ask(Request.GET_MAX_MEM_SLOTS);
      if (payload.byteLength !== 8 || payload.getUint32(0, true) < 2) violated("fewer than two regions");
      front.close();
      const device = await context.start({ addsRegions: true });
      await device.request();
      await device.stop();
      await device.removeBuffers();
    },
  },
  {
    section: "VHOST_USER_SET_VRING_CALL",
    says: "the driver is told by the call descriptor that a buffer was used",
    run: async ({ start }) => {
      const device = await start();
      await device.request();
      if (!(await device.front.until(() => device.call.drain() > 0))) violated("no call came");
    },
  },
  {
    section: "VHOST_USER_SET_VRING_CALL",
    says: "a later call descriptor takes the place of the one before",
    run: async ({ start, wire }) => {
      const device = await start();
      const other = wire.createCounter();
      try {
        await device.setCall(other);
        await device.request();
        if (!(await device.front.until(() => other.drain() > 0))) violated("no call came by the new one");
      } finally {
        other.close();
      }
    },
  },
  {
    section: "VHOST_USER_SET_VRING_CALL",
    says: "a driver that polls gives no call descriptor",
    run: async ({ start }) => {
      const device = await start({ polls: true });
      await device.request();
      if (device.call.drain() > 0) violated("a call came");
    },
  },
  {
    section: "Ring states",
    says: "a ring works once it is enabled by SET_VRING_ENABLE, where protocol features were agreed on",
    run: async ({ start }) => {
      // Buffers offered before may be processed, without side effects: that cannot be told from here.
      const device = await start({ isDisabled: true });
      await device.enable(true);
      await device.request();
    },
  },
  {
    section: "Ring states",
    says: "a ring is enabled from the start where they were not",
    run: async ({ start }) => {
      const device = await start({ protocol: false });
      await device.request();
    },
  },
  {
    section: "Ring states",
    says: "a ring that was disabled works once it is enabled again",
    run: async ({ start }) => {
      const device = await start();
      await device.request();
      await device.enable(false);
      await device.enable(true);
      await device.request();
    },
  },
  {
    section: "VHOST_USER_GET_VRING_BASE",
    says: "the ring stops, and the answer says which buffer comes next",
    run: async ({ start }) => {
      const device = await start();
      for (let i = 0; i < 3; i++) await device.request();
      const base = await device.stop();
      if (base !== 3) violated(`base ${base} after 3 buffers`);
      device.offer();
      await device.expectIdle("after it was stopped");
    },
  },
  {
    section: "VHOST_USER_SET_VRING_BASE",
    says: "a ring goes on at the buffer that it is told of",
    run: async ({ start }) => {
      const device = await start();
      for (let i = 0; i < 3; i++) await device.request();
      const base = await device.stop();
      await device.startRing({ base });
      await device.request();
      if (device.used !== 4) violated(`${device.used} buffers used of 4`);
    },
  },
  {
    section: "VHOST_USER_RESET_DEVICE",
    says: "after it the device can be set up again",
    run: async (context) => {
      const device = await context.start({ protocol: [Protocol.REPLY_ACK, Protocol.RESET_DEVICE] });
      if (!device.front.protocol.includes(Protocol.RESET_DEVICE))
        context.skip("the back end does not offer RESET_DEVICE");
      await device.request();
      await device.stop();
      await device.front.tell(Request.RESET_DEVICE);
      device.close();
      await (await context.start()).request();
    },
  },
];

/** What no front end may do to the next one. The protocol demands nothing of the connection itself, which may end. */
const robustness: readonly Clause[] = [
  ["ends between two messages", () => undefined],
  ["ends in the middle of a message", (front: ClauseFront) => front.sendBytes(u32(2, 1).slice(0, 6))],
  ["sends a message that there is not", (front: ClauseFront) => front.send(0x7777, u64(1))],
  ["sends a payload that is too short", (front: ClauseFront) => front.send(Request.SET_FEATURES, u32(1))],
  [
    "names a ring that there is not",
    (front: ClauseFront) => front.send(Request.SET_VRING_NUM, u32(0xfff, 16)),
  ],
  [
    "gives a ring addresses outside of all memory",
    (front: ClauseFront) =>
      front.send(Request.SET_VRING_ADDR, Uint8Array.from([...u32(0, 0), ...u64(0x1000, 0x2000, 0x3000, 0)])),
  ],
  [
    "shares memory without a descriptor",
    (front: ClauseFront) => front.send(Request.SET_MEM_TABLE, u32(1, 0, ...new Array<number>(8).fill(0))),
  ],
].map(
  ([what, act]): Clause => ({
    section: "Reconnecting",
    says: `a front end that ${what as string} leaves the back end to the next one`,
    run: async ({ connect, start, wire }) => {
      const front = await connect();
      await front.bits(Request.GET_FEATURES);
      (act as (front: ClauseFront) => unknown)(front);
      await wire.linger();
      front.close();
      await (await start()).request();
    },
  }),
);

export const vhostUserClauses: readonly Clause[] = [...negotiation, ...rings, ...robustness];
