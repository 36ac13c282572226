const NS_PER_SECOND = 1_000_000_000;

/**
 * A counter of fixed frequency on guest time, without drift: both directions are exact integers.
 * Whole seconds are split off so that no product leaves 2^53 (true up to 9 MHz).
 */
export class FixedRate {
  readonly hz: number;

  constructor(hz: number) {
    this.hz = hz;
  }

  /** Ticks completed at `ns`. */
  ticksAt(ns: number): number {
    const seconds = Math.floor(ns / NS_PER_SECOND);
    const rest = Math.floor(ns - seconds * NS_PER_SECOND);
    return seconds * this.hz + Math.floor((rest * this.hz) / NS_PER_SECOND);
  }

  /** First whole nanosecond at which `tick` ticks are complete. */
  nsOf(tick: number): number {
    const seconds = Math.floor(tick / this.hz);
    const rest = tick - seconds * this.hz;
    return seconds * NS_PER_SECOND + Math.ceil((rest * NS_PER_SECOND) / this.hz);
  }
}
