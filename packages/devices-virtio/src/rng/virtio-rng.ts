import type { Clock, EntropySource } from "@northbridge/sdk";
import {
  type DescriptorChain,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { RateLimiter, type RateLimiterStateV1, type RateLimits, serveWithin } from "../rate-limiter.ts";
import { expectVersion } from "../saved-state.ts";
import { MAX_BYTES, REQUEST_QUEUE } from "./spec.ts";

const QUEUE_SIZE = 8;

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioRngStateV1 {
  readonly version: 1;
  readonly limiter: RateLimiterStateV1;
}

/** Entropy device (virtio 1.3 §5.4). A request gets up to 64 KiB at once. */
export class VirtioRng implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.RNG;
  readonly features: readonly number[] = [];
  readonly queues: readonly number[] = [QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(0);
  readonly #entropy: EntropySource;
  readonly #limiter: RateLimiter | undefined;
  #session: VirtioSession | undefined;
  #bytes = 0;
  #throttled = 0;

  constructor(deps: {
    readonly entropy: EntropySource;
    /** @defaultValue any amount */
    readonly limits?: { readonly rates: RateLimits; readonly clock: Clock };
  }) {
    const { entropy, limits } = deps;
    this.#entropy = entropy;
    this.#limiter =
      limits &&
      new RateLimiter(limits.rates, limits.clock, () => {
        this.notify();
      });
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(): void {
    const queue = this.#session?.queue(REQUEST_QUEUE);
    if (queue === undefined) return;
    const isServed = serveWithin(this.#limiter, queue, lengthOf, (chain) => {
      const length = lengthOf(chain);
      for (const view of chain.writable(0, length)) this.#entropy.fill(view);
      chain.written(0, length);
      this.#bytes += length;
      queue.push(chain, length);
    });
    if (!isServed) this.#throttled++;
  }

  reset(): void {
    this.#session = undefined;
  }

  stats(): Readonly<Record<string, number>> {
    return { bytes: this.#bytes, throttled: this.#throttled };
  }

  /** Queues are all there is without limits. */
  save(): VirtioRngStateV1 | undefined {
    return this.#limiter && { version: 1, limiter: this.#limiter.save() };
  }

  restore(state: unknown): void {
    if (state === undefined) return;
    const { version, limiter } = state as VirtioRngStateV1;
    expectVersion("virtioRng", version);
    this.#limiter?.restore(limiter);
  }
}

const lengthOf = (chain: DescriptorChain): number => Math.min(chain.writableBytes, MAX_BYTES);
