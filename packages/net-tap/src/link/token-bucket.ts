import { Alarm, type Scheduler } from "../scheduler.ts";

/** How much may pass. */
export interface RateLimit {
  readonly bytesPerSecond?: number | undefined;
  readonly framesPerSecond?: number | undefined;
}

/** Credit that gathers while nothing passes, in seconds. */
const BURST_SECONDS = 0.05;
/** A frame of any size passes once the credit is above nothing: it may go below. */
const SMALLEST_BURST = { bytes: 65_536, frames: 16 };

/** A token bucket over bytes and frames (RFC 2697 without colours): credit may be overdrawn by one frame. */
export class TokenBucket {
  readonly #scheduler: Scheduler;
  readonly #limit: RateLimit;
  readonly #alarm: Alarm;
  #bytes: number;
  #frames: number;
  #atMs: number;

  /** @param onCredit called when a frame may pass again after `take` said no */
  constructor(limit: RateLimit, scheduler: Scheduler, onCredit: () => void) {
    this.#limit = limit;
    this.#scheduler = scheduler;
    this.#alarm = new Alarm(scheduler, onCredit);
    this.#atMs = scheduler.nowMs();
    this.#bytes = this.#mostBytes();
    this.#frames = this.#mostFrames();
  }

  /** Whether a frame may pass now. If not, `onCredit` follows. */
  mayPass(): boolean {
    const { bytesPerSecond, framesPerSecond } = this.#limit;
    const now = this.#scheduler.nowMs();
    const seconds = (now - this.#atMs) / 1000;
    this.#atMs = now;
    if (bytesPerSecond !== undefined) {
      this.#bytes = Math.min(this.#mostBytes(), this.#bytes + seconds * bytesPerSecond);
    }
    if (framesPerSecond !== undefined) {
      this.#frames = Math.min(this.#mostFrames(), this.#frames + seconds * framesPerSecond);
    }
    const wait = Math.max(
      bytesPerSecond === undefined || this.#bytes > 0 ? 0 : -this.#bytes / bytesPerSecond,
      framesPerSecond === undefined || this.#frames > 0 ? 0 : -this.#frames / framesPerSecond,
    );
    const mayPass =
      (bytesPerSecond === undefined || this.#bytes > 0) &&
      (framesPerSecond === undefined || this.#frames > 0);
    if (!mayPass) this.#alarm.arm(wait * 1000 + 1);
    return mayPass;
  }

  /** A frame passed. */
  passed(bytes: number): void {
    this.#bytes -= bytes;
    this.#frames -= 1;
  }

  close(): void {
    this.#alarm.close();
  }

  #mostBytes(): number {
    return Math.max(SMALLEST_BURST.bytes, (this.#limit.bytesPerSecond ?? 0) * BURST_SECONDS);
  }

  #mostFrames(): number {
    return Math.max(SMALLEST_BURST.frames, (this.#limit.framesPerSecond ?? 0) * BURST_SECONDS);
  }
}
