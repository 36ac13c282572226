import type { BlockBackend, Clock, Timer } from "@northbridge/sdk";

/** What a {@link ThrottledDisk} lets through in a second of guest time. */
export interface ThrottleLimits {
  /** Reads, writes, zeroes, discards and flushes. */
  readonly requests?: number | undefined;
  /** Read and written. */
  readonly bytes?: number | undefined;
  /** After a pause, as much as would have passed in this time may pass at once. @defaultValue 100 */
  readonly burstMs?: number | undefined;
}

/** When requests may begin: each one makes the next wait for what it cost (a leaky bucket). */
class Meter {
  readonly #nsEach: number;
  readonly #burstNs: number;
  #paidUntil = 0;

  constructor(perSecond: number, burstMs: number) {
    this.#nsEach = 1e9 / perSecond;
    this.#burstNs = burstMs * 1e6;
  }

  /** Takes `count` and returns when they may begin. */
  take(count: number, nowNs: number): number {
    const from = Math.max(this.#paidUntil, nowNs - this.#burstNs);
    this.#paidUntil = from + count * this.#nsEach;
    return from;
  }
}

interface Waiting {
  readonly timer: Timer;
  begin: (() => void) | undefined;
}

/** A disk in front of another one that lets only so much through, by guest time. Requests begin in their order. */
export class ThrottledDisk implements BlockBackend {
  readonly #disk: BlockBackend;
  readonly #clock: Clock;
  readonly #requests: Meter | undefined;
  readonly #bytes: Meter | undefined;
  readonly #waiting: Waiting[] = [];
  #throttled = 0;
  /** Guest time at the last hurry: while it is that time, it stands still. */
  #standsStillAt = NaN;
  readonly discard?: (offset: number, length: number) => Promise<void>;
  readonly writeZeroes?: (offset: number, length: number, mayUnmap: boolean) => Promise<void>;
  readonly resize?: NonNullable<BlockBackend["resize"]>;

  constructor(disk: BlockBackend, clock: Clock, { requests, bytes, burstMs = 100 }: ThrottleLimits) {
    this.#disk = disk;
    this.#clock = clock;
    this.#requests = requests === undefined ? undefined : new Meter(requests, burstMs);
    this.#bytes = bytes === undefined ? undefined : new Meter(bytes, burstMs);
    if (disk.discard !== undefined) {
      this.discard = (offset, length) => this.#after(0, () => disk.discard?.(offset, length));
    }
    if (disk.writeZeroes !== undefined) {
      this.writeZeroes = (offset, length, mayUnmap) =>
        this.#after(0, () => disk.writeZeroes?.(offset, length, mayUnmap));
    }
    if (disk.resize !== undefined) this.resize = disk.resize.bind(disk);
  }

  get size(): number {
    return this.#disk.size;
  }

  get blockSize(): number {
    return this.#disk.blockSize;
  }

  get readOnly(): boolean {
    return this.#disk.readOnly;
  }

  /** Requests that had to wait. */
  get throttled(): number {
    return this.#throttled;
  }

  get location(): string | undefined {
    return this.#disk.location;
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#after(lengthOf(into), () => this.#disk.read(offset, into));
  }

  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    return this.#after(lengthOf(from), () => this.#disk.write(offset, from));
  }

  flush(): Promise<void> {
    return this.#after(0, () => this.#disk.flush());
  }

  hurry(): void {
    this.#standsStillAt = this.#clock.nowNs();
    for (const waiting of this.#waiting) {
      waiting.timer.disarm();
      begin(waiting);
    }
    this.#disk.hurry?.();
  }

  async close(): Promise<void> {
    this.hurry();
    await this.#disk.close();
  }

  async #after(bytes: number, act: () => Promise<void> | undefined): Promise<void> {
    const now = this.#clock.nowNs();
    const at = Math.max(this.#requests?.take(1, now) ?? 0, this.#bytes?.take(bytes, now) ?? 0);
    if (at > now && now !== this.#standsStillAt) {
      this.#throttled += 1;
      await this.#until(at);
    }
    await act();
  }

  #until(ns: number): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.find((each) => each.begin === undefined) ?? this.#newWaiting();
      waiting.begin = resolve;
      waiting.timer.arm(ns);
    });
  }

  #newWaiting(): Waiting {
    const waiting: Waiting = { timer: this.#clock.createTimer(() => begin(waiting)), begin: undefined };
    this.#waiting.push(waiting);
    return waiting;
  }
}

function begin(waiting: Waiting): void {
  const { begin: resolve } = waiting;
  waiting.begin = undefined;
  resolve?.();
}

const lengthOf = (parts: readonly Uint8Array[]): number => parts.reduce((sum, { length }) => sum + length, 0);
