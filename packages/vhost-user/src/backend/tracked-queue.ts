import type { DescriptorChain, QueueStateV1, VirtQueue } from "@northbridge/sdk/virtio";
import type { InflightRegion } from "./inflight-region.ts";

/** A split queue that notes in a region what its device has taken and not yet used. */
export class TrackedQueue implements VirtQueue {
  readonly #queue: VirtQueue;
  readonly #region: InflightRegion;
  /** Heads pushed since the last flush. */
  readonly #batch: number[] = [];

  constructor(queue: VirtQueue, region: InflightRegion) {
    this.#queue = queue;
    this.#region = region;
  }

  get size(): number {
    return this.#queue.size;
  }

  get isOpen(): boolean {
    return this.#queue.isOpen;
  }

  pop(): DescriptorChain | undefined {
    const chain = this.#queue.pop();
    if (chain !== undefined) this.#region.take(chain.id);
    return chain;
  }

  push(chain: DescriptorChain, written: number): void {
    if (!this.#queue.isOpen) return;
    this.#region.use(chain.id);
    this.#batch.push(chain.id);
    this.#queue.push(chain, written);
  }

  unpop(chain: DescriptorChain): void {
    this.#queue.unpop(chain);
  }

  flush(): void {
    if (!this.#queue.isOpen) return;
    this.#queue.flush();
    this.#region.shown(this.#batch);
    this.#batch.length = 0;
  }

  disableNotifications(): void {
    this.#queue.disableNotifications();
  }

  enableNotifications(): boolean {
    return this.#queue.enableNotifications();
  }

  close(): void {
    if (!this.#queue.isOpen) return;
    this.#queue.close(); // which shows what was pushed
    this.#region.shown(this.#batch.splice(0));
  }

  save(): QueueStateV1 {
    return this.#queue.save();
  }

  restore(state: QueueStateV1): void {
    this.#queue.restore(state);
  }
}
