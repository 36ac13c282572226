import type { VcpuHandler } from "@northbridge/sdk";

/** What the handler does when the guest reads. */
export const Failure = { EXIT: 1, THROW: 2 } as const;

/** A handler with a bug. */
export default function failing(shared: SharedArrayBuffer): VcpuHandler {
  const [failure] = new Int32Array(shared);
  return {
    read: () => {
      if (failure === Failure.EXIT) process.exit(0);
      throw new Error("a handler's bug");
    },
    write: () => true,
  };
}
