import type { EntropySource } from "@northbridge/sdk";
import { serve, type VirtioDevice, type VirtioSession, virtioSpec } from "@northbridge/sdk/virtio";
import { MAX_BYTES, REQUEST_QUEUE } from "./spec.ts";

const QUEUE_SIZE = 8;

/** Entropy device (virtio 1.3 §5.4). A request gets up to 64 KiB at once. */
export class VirtioRng implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.RNG;
  readonly features: readonly number[] = [];
  readonly queues: readonly number[] = [QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(0);
  readonly #entropy: EntropySource;
  #session: VirtioSession | undefined;
  #bytes = 0;

  constructor(deps: { readonly entropy: EntropySource }) {
    this.#entropy = deps.entropy;
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(): void {
    const queue = this.#session?.queue(REQUEST_QUEUE);
    if (queue === undefined) return;
    serve(queue, (chain) => {
      const length = Math.min(chain.writableBytes, MAX_BYTES);
      for (const view of chain.writable(0, length)) this.#entropy.fill(view);
      chain.written(0, length);
      this.#bytes += length;
      queue.push(chain, length);
    });
  }

  reset(): void {
    this.#session = undefined;
  }

  stats(): Readonly<Record<string, number>> {
    return { bytes: this.#bytes };
  }

  save(): undefined {
    return undefined;
  }

  restore(): void {
    // Queues are all there is.
  }
}
