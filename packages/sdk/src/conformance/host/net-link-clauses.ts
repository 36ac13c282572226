import type { NetBackend } from "@northbridge/core/contracts";
import { expectEqual } from "./conformance-hooks.ts";
import { Card } from "./net-card.ts";
import type { LinkFrames } from "./net-frames.ts";

/** A link, whatever it leads to. */
export interface AnyLink {
  readonly net: NetBackend;
  readonly frames: LinkFrames;
}

/** What a guest may send and no link carries: in parts, no header, and too long for any. */
export const NO_FRAMES: readonly (readonly Uint8Array[])[] = [
  [],
  [new Uint8Array(0)],
  [new Uint8Array(1)],
  [new Uint8Array(6), new Uint8Array(7)],
  [new Uint8Array(65_554)],
  [new Uint8Array(14), new Uint8Array(1_000_000)],
];

/** RFC 791 §3.2: every link carries 68 bytes. */
const SMALLEST_MTU = 68;
const OFFLOADS = ["checksum", "tso4", "tso6", "ecn", "uso"] as const;

const isBoolean = (value: unknown): boolean => typeof value === "boolean";

/** What every link does, be it plugged in or not: name and test. */
export const LINK_CLAUSES: Readonly<Record<string, (link: AnyLink) => Promise<void>>> = {
  "says an MTU": ({ net }) => {
    expectEqual("whole and large enough", Number.isInteger(net.mtu) && net.mtu >= SMALLEST_MTU, true);
    return Promise.resolve();
  },

  "takes what a guest sends before anybody listens, and what is no frame": ({ net, frames }) => {
    for (const parts of [...NO_FRAMES, [frames.outgoing(1, 60).frame]]) {
      expectEqual("an answer", isBoolean(net.send(parts)), true);
    }
    net.resume();
    return Promise.resolve();
  },

  "says of its cable at once, and once": ({ net }) => {
    const told: boolean[] = [];
    net.watchLink?.((isUp) => told.push(isUp));
    const [first, ...more] = told;
    if (net.watchLink !== undefined) expectEqual("told", [isBoolean(first), more], [true, []]);
    return Promise.resolve();
  },

  "says of each sort of work whether it takes it on, and can be told of the consumer's": ({ net }) => {
    const { offloads } = net;
    if (offloads !== undefined) {
      for (const sort of OFFLOADS) expectEqual(sort, isBoolean(offloads[sort]), true);
      net.setOffloads?.(offloads);
      net.setOffloads?.({ checksum: false, tso4: false, tso6: false, ecn: false, uso: false });
    }
    expectEqual("setOffloads is there", net.setOffloads !== undefined, offloads !== undefined);
    return Promise.resolve();
  },

  "closes, and once more, and is quiet then": async ({ net, frames }) => {
    const card = new Card(net, frames);
    const closing = net.close();
    const again = net.close();
    await closing;
    await again;
    card.isOver = true;
    for (const parts of [...NO_FRAMES, [frames.outgoing(1, 60).frame]]) net.send(parts);
    net.resume();
    net.setOffloads?.({ checksum: true, tso4: true, tso6: true, ecn: true, uso: true });
    await net.close();
    expectEqual("afterwards", card.faults, []);
  },
};
