import type { NetBackend } from "@northbridge/core/contracts";
import { expectEqual, type SuiteHooks } from "./conformance-hooks.ts";

/** A link and its other end. */
export interface LinkUnderTest {
  readonly net: NetBackend;
  /** A frame arrives from outside. Resolves once the link has offered it. */
  readonly deliver: (frame: Uint8Array) => Promise<void>;
  /** Resolves with the next frame that left by the link. */
  readonly sent: () => Promise<Uint8Array>;
}

/** Declares the tests that every `NetBackend` passes. */
export function netConformance(hooks: SuiteHooks, create: () => Promise<LinkUnderTest>): void {
  const test = (name: string, body: (link: LinkUnderTest) => Promise<void>): void => {
    hooks.it(name, async () => {
      const link = await create();
      try {
        await body(link);
      } finally {
        await link.net.close();
      }
    });
  };
  hooks.describe("net back end conformance", () => {
    test("sends frames gathered from parts, whole and in order", async ({ net, sent }) => {
      const whole = frame(1, 100);
      expectEqual(
        "sending",
        net.send([whole.subarray(0, 14), whole.subarray(14, 14), whole.subarray(14)]),
        true,
      );
      expectEqual("sending", net.send([frame(2, 60)]), true);
      expectEqual("first", [...(await sent())], [...whole]);
      expectEqual("second", [...(await sent())], [...frame(2, 60)]);
    });

    test("has taken the bytes when it says so: the sender may use its buffer again", async ({
      net,
      sent,
    }) => {
      const buffer = frame(3, 64);
      net.send([buffer]);
      buffer.fill(0);
      expectEqual("sent", [...(await sent())], [...frame(3, 64)]);
    });

    test("carries a frame of the MTU", async ({ net, sent, deliver }) => {
      const largest = frame(4, net.mtu + 14);
      net.send([largest]);
      expectEqual("sent", (await sent()).length, largest.length);
      const received: number[] = [];
      net.connect(
        ({ length }) => received.push(length) > 0,
        () => undefined,
      );
      await deliver(largest);
      expectEqual("received", received, [largest.length]);
    });

    test("waits while the consumer has no buffer, and goes on in order", async ({ net, deliver }) => {
      const received: number[] = [];
      let buffers = 1;
      net.connect(
        (bytes) => {
          if (buffers === 0) return false;
          buffers--;
          received.push(bytes[14] ?? 0);
          return true;
        },
        () => undefined,
      );
      for (const tag of [1, 2, 3]) await deliver(frame(tag, 60));
      expectEqual("with one buffer", received, [1]);
      buffers = 2;
      net.resume();
      await deliver(frame(4, 60));
      expectEqual("with two more", received, [1, 2, 3]);
    });
  });
}

/** An Ethernet frame to everybody, full of `tag`. */
function frame(tag: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(tag);
  bytes.fill(0xff, 0, 6);
  bytes.set([0x02, 0, 0, 0, 0, tag, 0x88, 0xb5], 6);
  return bytes;
}
