/** Limits of the retransmission timer (RFC 6298; the lower bound is that of common stacks, not its 1 s). */
const SMALLEST_RTO_MS = 200;
const LARGEST_RTO_MS = 60_000;

/** Round-trip time and retransmission time-out (RFC 6298 §2), by Karn's rule: one unretransmitted segment at a time. */
export class RoundTrip {
  #smoothed = -1;
  #variation = 0;
  #timeoutMs = 1000;

  get timeoutMs(): number {
    return this.#timeoutMs;
  }

  sample(ms: number): void {
    if (this.#smoothed < 0) {
      this.#smoothed = ms;
      this.#variation = ms / 2;
    } else {
      this.#variation = 0.75 * this.#variation + 0.25 * Math.abs(this.#smoothed - ms);
      this.#smoothed = 0.875 * this.#smoothed + 0.125 * ms;
    }
    this.progress();
  }

  /** Data got through: the time-out is again what was measured. */
  progress(): void {
    if (this.#smoothed < 0) return;
    const timeout = this.#smoothed + 4 * this.#variation;
    this.#timeoutMs = Math.min(LARGEST_RTO_MS, Math.max(SMALLEST_RTO_MS, timeout));
  }

  /** Doubles the time-out after it has struck (RFC 6298 §5.5). */
  backOff(): void {
    this.#timeoutMs = Math.min(LARGEST_RTO_MS, this.#timeoutMs * 2);
  }
}

/**
 * Congestion window: slow start, congestion avoidance (RFC 5681), and recovery: NewReno (RFC 6582), which inflates the
 * window by what duplicates say has left the network, or that of RFC 6675, which knows it by SACK.
 */
export class CongestionWindow {
  readonly #mss: number;
  #window: number;
  #threshold = 1 << 30;
  #duplicates = 0;
  #recovering = false;

  readonly #usesSack: boolean;

  constructor(mss: number, usesSack: boolean) {
    this.#mss = mss;
    this.#usesSack = usesSack;
    this.#window = 10 * mss;
  }

  get bytes(): number {
    return this.#window;
  }

  get recovering(): boolean {
    return this.#recovering;
  }

  /** New data was acknowledged outside of recovery. */
  acknowledged(bytes: number): void {
    this.#duplicates = 0;
    // All of it counts, not RFC 5681's one segment: one acknowledgment stands for a large frame of the guest's.
    if (this.#window < this.#threshold) this.#window += bytes;
    else this.#window += Math.max(1, Math.floor((this.#mss * this.#mss) / this.#window));
    this.#window = Math.min(this.#window, 1 << 30);
  }

  /** True where this duplicate is the one that starts fast retransmission. `isLost`: the scoreboard says so already. */
  duplicate(inFlight: number, isLost: boolean): boolean {
    this.#duplicates += 1;
    if (this.#recovering) {
      if (!this.#usesSack) this.#window += this.#mss;
      return false;
    }
    if (this.#duplicates < 3 && !isLost) return false;
    this.#threshold = Math.max(inFlight / 2, 2 * this.#mss);
    this.#window = this.#threshold + (this.#usesSack ? 0 : 3 * this.#mss);
    this.#recovering = true;
    return true;
  }

  /** An acknowledgment in recovery that leaves a hole (RFC 6582 §3.2 step 3). */
  partial(bytes: number): void {
    if (this.#usesSack) return;
    this.#window = Math.max(this.#mss, this.#window - bytes + this.#mss);
  }

  recovered(): void {
    this.#duplicates = 0;
    this.#recovering = false;
    this.#window = Math.max(2 * this.#mss, this.#threshold);
  }

  /** The timer struck: one segment, then slow start (RFC 5681 §3.1). */
  timedOut(inFlight: number): void {
    this.#duplicates = 0;
    this.#recovering = false;
    this.#threshold = Math.max(inFlight / 2, 2 * this.#mss);
    this.#window = this.#mss;
  }
}
