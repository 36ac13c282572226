import type { NetBackend, NetOffloads } from "@northbridge/sdk";

/**
 * A cable between two back ends: what one receives the other sends, undone work included where both take it on. Each
 * waits while the other has no room. Neither may have another consumer.
 */
export function patch(one: NetBackend, other: NetBackend): void {
  const both = common(one.offloads, other.offloads);
  if (both !== undefined) {
    one.setOffloads?.(both);
    other.setOffloads?.(both);
  }
  one.connect(
    (frame, header) => other.send([frame], header),
    () => {
      other.resume();
    },
  );
  other.connect(
    (frame, header) => one.send([frame], header),
    () => {
      one.resume();
    },
  );
}

function common(one: NetOffloads | undefined, other: NetOffloads | undefined): NetOffloads | undefined {
  if (one === undefined || other === undefined) return undefined;
  return {
    checksum: one.checksum && other.checksum,
    tso4: one.tso4 && other.tso4,
    tso6: one.tso6 && other.tso6,
    ecn: one.ecn && other.ecn,
    uso: one.uso && other.uso,
  };
}
