import type { NetBackend } from "@northbridge/core/contracts";
import { expectEqual, type SuiteHooks } from "./conformance-hooks.ts";
import { Card } from "./net-card.ts";
import { etherFrames, type LinkFrames } from "./net-frames.ts";
import { LINK_CLAUSES, NO_FRAMES } from "./net-link-clauses.ts";

/** A link that is plugged in, and its other end. */
export interface LinkUnderTest {
  readonly net: NetBackend;
  /**
   * A frame arrives from outside. Resolves once the link has had the time to offer it.
   * @param header work on it that is left, as in `send`, for a link with offloads that carries any frame
   */
  readonly deliver: (frame: Uint8Array, header?: Uint8Array) => Promise<void>;
  /** Resolves with the next frame of the suite that left by the link. */
  readonly sent: () => Promise<Uint8Array>;
  /** Frames that it carries. @defaultValue any Ethernet frame */
  readonly frames?: LinkFrames;
  /** Gives up the other end, after `net` is closed. */
  readonly close?: () => Promise<void>;
}

/** Frames that are sent to a link that nobody empties, at most. */
const MANY = 4096;

type Clause = (link: LinkUnderTest & { readonly frames: LinkFrames }) => Promise<void>;

/** Clauses of what carries frames. */
const CARRYING: Readonly<Record<string, Clause>> = {
  "sends frames gathered from parts, whole and in order": async ({ net, sent, frames }) => {
    const [first, second] = [frames.outgoing(1, 100), frames.outgoing(2, 60)];
    const parts = [first.frame.subarray(0, 14), first.frame.subarray(14, 14), first.frame.subarray(14)];
    expectEqual("sending", net.send(parts), true);
    expectEqual("sending", net.send([second.frame]), true);
    expectEqual("first", [...(await sent())], [...first.arrives]);
    expectEqual("second", [...(await sent())], [...second.arrives]);
  },

  "has taken the bytes when it says so: the sender may use its buffer again": async (link) => {
    const { net, sent, frames } = link;
    const { frame, arrives } = frames.outgoing(3, 64);
    const buffer = frame.slice();
    net.send([buffer]);
    buffer.fill(0);
    expectEqual("sent", [...(await sent())], [...arrives]);
  },

  "carries a frame of the MTU": async ({ net, sent, deliver, frames }) => {
    const { frame, arrives } = frames.outgoing(4, net.mtu + 14);
    net.send([frame]);
    expectEqual("sent", (await sent()).length, arrives.length);
    const card = new Card(net, frames);
    await deliver(frames.incoming(4, net.mtu + 14));
    await card.taken(1);
    expectEqual("received", [card.tags, card.lengths], [[4], [net.mtu + 14]]);
  },

  "waits while the consumer has no buffer, and goes on in order": async ({ net, deliver, frames }) => {
    const card = new Card(net, frames);
    card.buffers = 1;
    for (const tag of [1, 2, 3]) await deliver(frames.incoming(tag, 60));
    await card.offered(2);
    await deliver(frames.incoming(4, 60));
    expectEqual("with one buffer: taken and offered", [card.tags, card.offers], [[1], 2]);
    card.buffers = 2;
    net.resume();
    await card.taken(3);
    expectEqual("with two more", card.tags, [1, 2, 3]);
  },

  "takes what the consumer sends while it is given a frame": async ({ net, deliver, sent, frames }) => {
    const card = new Card(net, frames);
    const answer = frames.outgoing(9, 60);
    card.buffers = 1;
    card.onFrame = () => void net.send([answer.frame]);
    await deliver(frames.incoming(1, 60));
    await card.taken(1);
    await untilSent(sent, answer.arrives);
  },

  "says when it has room again, where it said that it is full": async ({ net, sent, frames }) => {
    const card = new Card(net, frames);
    const writable = card.writable().then(() => undefined);
    const { frame } = frames.outgoing(5, net.mtu + 14);
    let count = 0;
    while (count < MANY && net.send([frame])) count++;
    if (count === MANY) return; // it loses what is too much, as a wire may
    const last = frames.outgoing(6, 60);
    let next = sent();
    for (let isFull = true; isFull; ) {
      const seen = await Promise.race([next, writable]);
      isFull = seen !== undefined;
      if (isFull) next = sent();
    }
    expectEqual("sending", net.send([last.frame]), true);
    if (!isSame(await next, last.arrives)) await untilSent(sent, last.arrives);
  },

  "goes on after what is no frame": async ({ net, sent, deliver, frames }) => {
    for (const parts of NO_FRAMES) net.send(parts);
    const good = frames.outgoing(7, 60);
    expectEqual("sending", net.send([good.frame]), true);
    await untilSent(sent, good.arrives);
    const card = new Card(net, frames);
    await deliver(frames.incoming(8, 60));
    while (card.tags.at(-1) !== 8) await card.taken(card.tags.length + 1);
  },

  "has one consumer: the last that was connected": async ({ net, deliver, frames }) => {
    const former = new Card(net, frames);
    await deliver(frames.incoming(1, 60));
    await former.taken(1);
    const present = new Card(net, frames);
    former.isOver = true;
    net.resume();
    await deliver(frames.incoming(2, 60));
    await present.taken(1);
    expectEqual("tags", [former.tags, present.tags], [[1], [2]]);
    expectEqual("the former", former.faults, []);
  },

  "says that its cable is plugged in": ({ net }) => {
    let isPlugged = true;
    net.watchLink?.((isUp) => (isPlugged = isUp));
    expectEqual("plugged in", isPlugged, true);
    return Promise.resolve();
  },

  "does the checksum that it took on": async ({ net, sent, frames }) => {
    const unsummed = frames.unsummed?.(5, 100);
    if (net.offloads?.checksum !== true || unsummed === undefined) return;
    expectEqual("sending", net.send([unsummed.frame], unsummed.header), true);
    expectEqual("sent", [...(await sent())], [...unsummed.arrives]);
  },

  "leaves nothing undone that the consumer has not taken on": async ({ net, deliver, frames }) => {
    if (net.offloads?.checksum !== true || frames !== etherFrames) return;
    const card = new Card(net, frames);
    const { frame, header } = etherFrames.unsummed?.(1, 100) ?? {};
    if (frame !== undefined) await deliver(frame, header);
    await card.taken(1);
    expectEqual("left undone", card.faults, []);
  },

  "gives nothing to anybody once it is closed": async ({ net, deliver, frames }) => {
    const card = new Card(net, frames);
    card.buffers = 0;
    await deliver(frames.incoming(1, 60));
    await card.offered(1);
    await net.close();
    card.isOver = true;
    card.buffers = Infinity;
    net.resume();
    await deliver(frames.incoming(2, 60));
    expectEqual("afterwards", [card.tags, card.faults], [[], []]);
  },
};

/** Clauses of a cable that leads nowhere. */
const UNPLUGGED: Readonly<Record<string, (link: { net: NetBackend; frames: LinkFrames }) => Promise<void>>> =
  {
    "says that its cable is not plugged in": ({ net }) => {
      const told: boolean[] = [];
      net.watchLink?.((isUp) => told.push(isUp));
      expectEqual("told", told, [false]);
      return Promise.resolve();
    },

    "loses what is sent, and has nobody wait for room that never comes": ({ net, frames }) => {
      const card = new Card(net, frames);
      const { frame } = frames.outgoing(1, net.mtu + 14);
      for (let count = 0; count < MANY; count++) expectEqual(`sending ${count}`, net.send([frame]), true);
      net.resume();
      expectEqual("offered", card.offers, 0);
      return Promise.resolve();
    },
  };

/**
 * Declares the tests that every `NetBackend` passes whose cable is plugged in. What `create` gives is closed by the suite,
 * `net` first.
 */
export function netConformance(hooks: SuiteHooks, create: () => Promise<LinkUnderTest>): void {
  hooks.describe("net back end conformance", () => {
    for (const [name, clause] of Object.entries({ ...LINK_CLAUSES, ...CARRYING })) {
      hooks.it(name, async () => {
        const link = await create();
        try {
          await clause({ ...link, frames: link.frames ?? etherFrames });
        } finally {
          await link.net.close();
          await link.close?.();
        }
      });
    }
  });
}

/** Declares the tests that every `NetBackend` passes whose cable is not plugged in, now or ever. The suite closes it. */
export function unpluggedConformance(hooks: SuiteHooks, create: () => Promise<NetBackend>): void {
  hooks.describe("conformance of a net back end without a cable", () => {
    for (const [name, clause] of Object.entries({ ...LINK_CLAUSES, ...UNPLUGGED })) {
      hooks.it(name, async () => {
        const net = await create();
        try {
          await clause({ net, frames: etherFrames });
        } finally {
          await net.close();
        }
      });
    }
  });
}

/** Frames before `wanted` may be others, and some of them lost. */
async function untilSent(sent: () => Promise<Uint8Array>, wanted: Uint8Array): Promise<void> {
  let isThere = false;
  while (!isThere) isThere = isSame(await sent(), wanted);
}

const isSame = (one: Uint8Array, other: Uint8Array): boolean =>
  one.length === other.length && one.every((byte, at) => byte === other[at]);
