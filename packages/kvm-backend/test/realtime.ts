import { RealtimeClock } from "@northbridge/core";
import type { DrivenClock } from "@northbridge/sdk";

/** A running clock on the host's time. */
export function realtime(): DrivenClock {
  const clock = new RealtimeClock();
  clock.resume();
  return clock;
}
