import type { VcpuHandler } from "@northbridge/sdk";

/** Words of the shared state. */
export const Shared = { SUM: 0, LIMIT: 1, CREATED: 2 } as const;

/** Adds up what is written to register 0 and gives the sum at register 4; at the limit the machine thread is asked. */
export default function hotCounter(shared: SharedArrayBuffer): VcpuHandler {
  const words = new Int32Array(shared);
  Atomics.add(words, Shared.CREATED, 1);
  return {
    read: (offset) => (offset === 4 ? Atomics.load(words, Shared.SUM) & 0xffff : undefined),
    write: (offset, _width, value) => {
      if (offset !== 0 || Atomics.load(words, Shared.SUM) >= Atomics.load(words, Shared.LIMIT)) return false;
      Atomics.add(words, Shared.SUM, value);
      return true;
    },
  };
}
