import { type Clock, RestoreError, type Timer } from "@northbridge/sdk";
import type { DescriptorChain, VirtQueue } from "@northbridge/sdk/virtio";
import * as v from "valibot";

/** How much a device may ask of the host. Absent: any amount. */
export interface RateLimits {
  readonly operationsPerSecond?: number | undefined;
  readonly bytesPerSecond?: number | undefined;
  /** How long a device that was idle may work unlimited by what it saved up. @defaultValue 100 */
  readonly burstMs?: number | undefined;
}

const rate = v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)));

/** For the schemas of the devices. */
export const rateLimits: v.GenericSchema<RateLimits> = v.strictObject({
  operationsPerSecond: rate,
  bytesPerSecond: rate,
  burstMs: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(3_600_000))),
});

/** Saved form: tokens in each bucket and when they were counted. */
export interface RateLimiterStateV1 {
  readonly atNs: number;
  readonly operations: number;
  readonly bytes: number;
}

const DEFAULT_BURST_MS = 100;
const NS_PER_S = 1e9;

/**
 * A token bucket of operations and one of bytes, filled in guest time. A request larger than the bucket passes when
 * the bucket is full, and those behind it wait the longer: the rate holds for any size.
 */
export class RateLimiter {
  readonly #clock: Clock;
  readonly #timer: Timer;
  readonly #operations: Bucket;
  readonly #bytes: Bucket;
  #atNs: number;

  /** @param onReady tokens have come that a refused `take` lacked */
  constructor(limits: RateLimits, clock: Clock, onReady: () => void) {
    const burst = (limits.burstMs ?? DEFAULT_BURST_MS) / 1000;
    this.#clock = clock;
    this.#timer = clock.createTimer(onReady);
    this.#operations = new Bucket(limits.operationsPerSecond ?? Infinity, burst);
    this.#bytes = new Bucket(limits.bytesPerSecond ?? Infinity, burst);
    this.#atNs = clock.nowNs();
  }

  /** Pays for one request; false where it is too early for it: `onReady` follows. */
  take(bytes: number): boolean {
    if (!this.allows(bytes)) return false;
    this.pay(bytes);
    return true;
  }

  /** Whether there are tokens for one request, to be paid once it is done. False: `onReady` follows. */
  allows(bytes: number): boolean {
    const now = this.#clock.nowNs();
    const passed = (now - this.#atNs) / NS_PER_S;
    this.#atNs = now;
    this.#operations.fill(passed);
    this.#bytes.fill(passed);
    const wait = Math.max(this.#operations.secondsUntil(1), this.#bytes.secondsUntil(bytes));
    if (wait > 0) {
      this.#timer.arm(now + Math.max(1, Math.ceil(wait * NS_PER_S)));
      return false;
    }
    return true;
  }

  pay(bytes: number): void {
    this.#operations.pay(1);
    this.#bytes.pay(bytes);
  }

  save(): RateLimiterStateV1 {
    const { level: operations } = this.#operations;
    const { level: bytes } = this.#bytes;
    return { atNs: this.#atNs, operations, bytes };
  }

  /** Throws `RestoreError` for what is no state of a limiter. */
  restore({ atNs, operations, bytes }: RateLimiterStateV1): void {
    if (![atNs, operations, bytes].every(Number.isFinite)) {
      throw new RestoreError("rate limiter", `expected numbers, found ${atNs}, ${operations}, ${bytes}`);
    }
    this.#atNs = atNs;
    this.#operations.level = operations;
    this.#bytes.level = bytes;
  }
}

/**
 * As `serve`, for as long as there are tokens. False where one was put back for the lack of them: `onReady` says when to
 * go on, until when the driver need not notify.
 * @param bytesOf what a request costs
 */
export function serveWithin(
  limiter: RateLimiter | undefined,
  queue: VirtQueue,
  bytesOf: (chain: DescriptorChain) => number,
  handle: (chain: DescriptorChain) => void,
): boolean {
  do {
    queue.disableNotifications();
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      if (limiter?.take(bytesOf(chain)) === false) {
        queue.unpop(chain);
        queue.flush();
        return false;
      }
      handle(chain);
    }
  } while (!queue.enableNotifications());
  queue.flush();
  return true;
}

class Bucket {
  readonly #perSecond: number;
  readonly #capacity: number;
  level: number;

  constructor(perSecond: number, burstSeconds: number) {
    this.#perSecond = perSecond;
    this.#capacity = perSecond === Infinity ? Infinity : Math.max(1, perSecond * burstSeconds);
    this.level = perSecond === Infinity ? 0 : this.#capacity;
  }

  fill(seconds: number): void {
    if (this.#perSecond !== Infinity) {
      this.level = Math.min(this.#capacity, this.level + seconds * this.#perSecond);
    }
  }

  secondsUntil(amount: number): number {
    if (this.#perSecond === Infinity) return 0;
    return Math.max(0, (Math.min(amount, this.#capacity) - this.level) / this.#perSecond);
  }

  /** May go below zero: a large request is paid off before the next one. */
  pay(amount: number): void {
    if (this.#perSecond !== Infinity) this.level -= amount;
  }
}
