import type { NetBackend } from "@northbridge/sdk";
import type { LinkUnderTest } from "@northbridge/sdk/conformance";

/** The two ends of a cable. */
export interface Cable {
  readonly net: NetBackend;
  readonly far: NetBackend;
  /** Gives up what is between them. */
  readonly close?: () => Promise<void>;
}

/** Some turns of the event loop: time for what is under way in this process. */
export async function turns(): Promise<void> {
  for (let count = 0; count < 4; count += 1) await new Promise(setImmediate);
}

const isWanted = (frame: Uint8Array): boolean => frame[12] === 0x88 && frame[13] === 0xb5;

/** What arrives at an end, in order, whose card has a buffer whenever somebody asks: of the suite's EtherType. */
function arrivals(far: NetBackend): () => Promise<Uint8Array> {
  let wanted: ((frame: Uint8Array) => void) | undefined;
  far.connect(
    (frame) => {
      if (!isWanted(frame)) return true;
      const taker = wanted;
      wanted = undefined;
      taker?.(frame.slice());
      return taker !== undefined;
    },
    () => undefined,
  );
  return () =>
    new Promise((resolve) => {
      wanted = resolve;
      far.resume();
    });
}

/** An end of a cable for the conformance suite, which plays the card at the other. */
export function cableUnderTest({ net, far, close }: Cable): LinkUnderTest {
  return {
    net,
    deliver: async (frame, header) => {
      far.send([frame], header);
      await turns();
    },
    sent: arrivals(far),
    close: async () => {
      await far.close();
      await close?.();
    },
  };
}
