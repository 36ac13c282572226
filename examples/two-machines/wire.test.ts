import type { NetBackend } from "@northbridge/sdk";
import { netConformance, unpluggedConformance } from "@northbridge/sdk/conformance";
import { describe, it } from "vitest";
import { WireEnd } from "./wire.ts";

/** What arrives at an end, whose card takes a frame when somebody asks for one. */
function arrivals(end: NetBackend): () => Promise<Uint8Array> {
  let wanted: ((frame: Uint8Array) => void) | undefined;
  end.connect(
    (frame) => {
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
      end.resume();
    });
}

describe("the end of a wire", () => {
  netConformance({ describe, it }, () => {
    const [net, far] = [new WireEnd(), new WireEnd()];
    net.join(far);
    return Promise.resolve({
      net,
      deliver: async (frame) => {
        far.send([frame]);
        await Promise.resolve(); // a turn for the other end
      },
      sent: arrivals(far),
      close: () => far.close(),
    });
  });
});

describe("the end of a wire whose other end nobody has", () => {
  unpluggedConformance({ describe, it }, () => Promise.resolve(new WireEnd()));
});
