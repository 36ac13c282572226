import { createCipheriv, randomFillSync } from "node:crypto";
import type { ClockKind, EntropySource } from "../contracts/index.ts";

const PIECE = 65_536;

/** The host's random numbers; under a `virtual` clock a key stream that is the same in every run. */
export function createEntropy(clock: ClockKind | undefined): EntropySource {
  if (clock !== "virtual") return { fill: (into) => void randomFillSync(into) };
  const stream = createCipheriv("aes-128-ctr", new Uint8Array(16), new Uint8Array(16));
  const zeroes = new Uint8Array(PIECE);
  return {
    fill: (into) => {
      for (let at = 0; at < into.length; at += PIECE) {
        into.set(stream.update(zeroes.subarray(0, Math.min(PIECE, into.length - at))), at);
      }
    },
  };
}
