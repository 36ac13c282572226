import type { NetBackend } from "@northbridge/sdk";

/**
 * A cable between two back ends: what one receives the other sends. Each waits while the other has no room. Neither may
 * have another consumer.
 */
export function patch(one: NetBackend, other: NetBackend): void {
  one.connect(
    (frame) => other.send([frame]),
    () => {
      other.resume();
    },
  );
  other.connect(
    (frame) => one.send([frame]),
    () => {
      one.resume();
    },
  );
}
