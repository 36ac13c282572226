import type { NetBackend, NetOffloads } from "@northbridge/sdk";

/** Gives a wrapper of a back end the offloads of what it wraps: it hands headers on as they are. */
export function forwardOffloads(
  inner: NetBackend,
  wrapper: { offloads?: NetOffloads; setOffloads?: (taken: NetOffloads) => void },
): void {
  if (inner.offloads === undefined) return;
  wrapper.offloads = inner.offloads;
  wrapper.setOffloads = (taken) => inner.setOffloads?.(taken);
}
