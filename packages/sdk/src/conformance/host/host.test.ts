import type { NetOffloads } from "@northbridge/core/contracts";
import { describe, expect, it } from "vitest";
import { FakeClock, FakeDisk, FakeNet } from "../../testing/index.ts";
import { blockConformance, clockConformance, type LinkUnderTest, netConformance } from "./index.ts";

describe("FakeClock", () => {
  clockConformance({ describe, it }, () => {
    const clock = new FakeClock();
    return { clock, advanceTo: (nowNs) => clock.advanceTo(nowNs) };
  });
});

describe("FakeDisk", () => {
  for (const blockSize of [512, 4096]) {
    blockConformance({ describe, it }, () => Promise.resolve(new FakeDisk(100 * blockSize, { blockSize })));
  }
});

const fakeLink = (net: FakeNet): LinkUnderTest => ({
  net,
  deliver: (frame) => {
    net.deliver(frame);
    return Promise.resolve();
  },
  sent: () => Promise.resolve(net.sent.shift() ?? new Uint8Array()),
});

describe("FakeNet", () => {
  netConformance({ describe, it }, () => Promise.resolve(fakeLink(new FakeNet())));
});

/** Clauses of the suite that do not hold for a link. */
async function broken(create: () => FakeNet): Promise<readonly string[]> {
  const failed: string[] = [];
  const bodies: [name: string, body: () => Promise<void>][] = [];
  netConformance(
    {
      describe: (_name, body) => {
        body();
      },
      it: (name, body) => void bodies.push([name, body]),
    },
    () => Promise.resolve(fakeLink(create())),
  );
  for (const [name, body] of bodies) await body().catch(() => failed.push(name));
  return failed;
}

type Receive = (frame: Uint8Array, header?: Uint8Array) => boolean;

/** Bugs, and the clause that each breaks. */
const BUGS: readonly [clause: string, create: () => FakeNet][] = [
  [
    "sends frames gathered from parts, whole and in order",
    () =>
      new (class extends FakeNet {
        override send = (parts: readonly Uint8Array[]): boolean => super.send(parts.slice(0, 1));
      })(),
  ],
  [
    "has taken the bytes when it says so: the sender may use its buffer again",
    () =>
      new (class extends FakeNet {
        override send = (parts: readonly Uint8Array[]): boolean => this.sent.push(parts.at(-1)!) > 0;
      })(),
  ],
  [
    "carries a frame of the MTU",
    () =>
      new (class extends FakeNet {
        override deliver = (frame: Uint8Array): void => {
          super.deliver(frame.slice(0, this.mtu));
        };
      })(),
  ],
  [
    "waits while the consumer has no buffer, and goes on in order",
    () =>
      new (class extends FakeNet {
        override deliver = (frame: Uint8Array): void => {
          super.deliver(frame);
          this.resume();
        };
      })(),
  ],
  [
    "goes on after what is no frame",
    () =>
      new (class extends FakeNet {
        override send = (parts: readonly Uint8Array[]): boolean => {
          if (parts.length === 0) throw new RangeError("a frame without parts");
          return super.send(parts);
        };
      })(),
  ],
  [
    "has one consumer: the last that was connected",
    () =>
      new (class extends FakeNet {
        readonly #consumers: Receive[] = [];
        override connect = (receive: Receive, onWritable: () => void): void => {
          this.#consumers.push(receive);
          super.connect((frame) => this.#consumers.every((one) => one(frame)), onWritable);
        };
      })(),
  ],
  ["says of its cable at once, and once", () => Object.assign(new FakeNet(), { watchLink: () => undefined })],
  [
    "says that its cable is plugged in",
    () =>
      Object.assign(new FakeNet(), {
        watchLink: (listener: (isUp: boolean) => void) => {
          listener(false);
        },
      }),
  ],
  [
    "says of each sort of work whether it takes it on, and can be told of the consumer's",
    () => Object.assign(new FakeNet(), { offloads: ALL }),
  ],
  [
    "does the checksum that it took on",
    () => Object.assign(new FakeNet(), { offloads: ALL, setOffloads: () => undefined }),
  ],
  [
    "closes, and once more, and is quiet then",
    () =>
      new (class extends FakeNet {
        override close = (): Promise<void> =>
          this.isClosed ? Promise.reject(new Error("it is closed")) : super.close();
      })(),
  ],
  [
    "gives nothing to anybody once it is closed",
    () =>
      new (class extends FakeNet {
        override close = (): Promise<void> => Promise.resolve();
      })(),
  ],
];
const ALL: NetOffloads = { checksum: true, tso4: true, tso6: true, ecn: true, uso: true };

it.each(BUGS)("netConformance finds a link out of which this does not hold: %s", async (clause, create) => {
  expect(await broken(create)).toContain(clause);
});
