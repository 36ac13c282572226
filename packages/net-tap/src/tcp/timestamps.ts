import type { Scheduler } from "../scheduler.ts";
import type { Segment } from "./segment.ts";
import { advance, distance } from "./sequence.ts";

/** Bytes that the option and its padding take of each segment (RFC 7323 appendix A). */
export const TIMESTAMP_BYTES = 12;
/** How long a timestamp of the peer holds: half of what 32 bits of milliseconds count (RFC 7323 §5.5). */
const STALE_MS = 24 * 24 * 3_600_000;
/** An echo older than this is none of ours. */
const LONGEST_ROUND_TRIP_MS = 300_000;

/** The timestamps of a connection (RFC 7323 §3 to §5): round-trip times, and protection against segments of the past. */
export class Timestamps {
  readonly #scheduler: Scheduler;
  /** Where the clock begins: a guest does not learn how long the host is up (§7.1). */
  readonly #offset: number;
  #isOn = false;
  /** TS.Recent, and when it was set. */
  #recent = 0;
  #recentMs = 0;

  constructor(scheduler: Scheduler, offset: number) {
    this.#scheduler = scheduler;
    this.#offset = offset;
  }

  /** Both ends send them. */
  get isOn(): boolean {
    return this.#isOn;
  }

  /** TSval: milliseconds. */
  get now(): number {
    return advance(this.#offset, Math.floor(this.#scheduler.nowMs()) % 2 ** 32);
  }

  /** TSecr. */
  get echo(): number {
    return this.#recent;
  }

  /** Learns of the peer's SYN. */
  open(syn: Segment): void {
    this.#isOn = syn.hasTimestamp;
    this.#recent = syn.timestamp;
    this.#recentMs = this.#scheduler.nowMs();
  }

  /** Whether a segment is not of the past (PAWS, §5.3 R1). */
  accepts(segment: Segment): boolean {
    return (
      distance(segment.timestamp, this.#recent) >= 0 || this.#scheduler.nowMs() - this.#recentMs > STALE_MS
    );
  }

  /** Notes what to echo from now on (§4.3): the timestamp of the oldest segment that the next answer is to. */
  note(segment: Segment, lastAcknowledgment: number): void {
    if (distance(segment.sequence, lastAcknowledgment) > 0 || !this.accepts(segment)) return;
    this.#recent = segment.timestamp;
    this.#recentMs = this.#scheduler.nowMs();
  }

  /** How long ago the peer was sent what it echoes; `undefined` where it echoes nothing of ours. */
  roundTripMs(segment: Segment): number | undefined {
    if (!this.#isOn) return undefined;
    const ms = distance(this.now, segment.echo);
    return ms < 0 || ms > LONGEST_ROUND_TRIP_MS ? undefined : ms;
  }
}
