import type { MemorySlot } from "@northbridge/sdk";
import {
  type DescriptorChain,
  serve,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
  type VirtQueue,
} from "@northbridge/sdk/virtio";
import { expectVersion } from "../saved-state.ts";
import type { PmemContent } from "./pmem-content.ts";
import { Config, Request, Response } from "./spec.ts";

const QUEUE_SIZE = 64;

/**
 * Persistent memory (virtio 1.3 §5.19): a range of guest memory beside RAM whose content is the host's. What the guest
 * has not flushed may be lost when the machine ends, as on a medium with a volatile cache. Not modelled: shared memory
 * regions.
 */
export class VirtioPmem implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.PMEM;
  readonly features: readonly number[] = [];
  readonly queues: readonly number[] = [QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly #content: PmemContent;
  readonly #counts = { flushes: 0, errors: 0 };
  #session: VirtioSession | undefined;
  #isPaused = false;
  /** Flushes happen one after the other: this is the last. */
  #flushing: Promise<void> | undefined;

  constructor({ slot, content }: { readonly slot: MemorySlot; readonly content: PmemContent }) {
    this.#content = content;
    const view = new DataView(this.config.buffer);
    for (const [at, value] of [
      [Config.START, slot.gpa],
      [Config.SIZE, slot.length],
    ] as const) {
      view.setUint32(at, value >>> 0, true);
      view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
    }
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    if (queue === undefined || this.#isPaused) return;
    serve(queue, (chain) => {
      this.#begin(queue, chain);
    });
  }

  reset(): Promise<void> | undefined {
    this.#session = undefined;
    return this.#flushing;
  }

  resetQueue(): Promise<void> | undefined {
    return this.#flushing;
  }

  async pause(): Promise<void> {
    this.#isPaused = true;
    this.#content.pause?.();
    await this.#flushing;
  }

  resume(): void {
    this.#isPaused = false;
    this.#content.resume?.();
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts, ...this.#content.stats() };
  }

  /** The content is in the machine's memory. */
  save(): { readonly version: 1 } {
    return { version: 1 };
  }

  restore(state: unknown): void {
    expectVersion("virtioPmem", (state as { readonly version: unknown }).version);
  }

  #begin(queue: VirtQueue, chain: DescriptorChain): void {
    if (chain.readableBytes < Request.LENGTH || chain.writableBytes < Response.LENGTH) {
      this.#session?.fail("malformedRequest");
      return;
    }
    if (chain.readU32(Request.TYPE) !== Request.FLUSH) {
      this.#complete(queue, chain, false);
      return;
    }
    this.#counts.flushes++;
    const before = this.#flushing ?? Promise.resolve();
    const flushed = before
      .then(() => this.#content.flush())
      .then(
        () => true,
        () => false,
      )
      .then((isDone) => {
        if (this.#flushing === flushed) this.#flushing = undefined;
        this.#complete(queue, chain, isDone);
        queue.flush();
      });
    this.#flushing = flushed;
  }

  #complete(queue: VirtQueue, chain: DescriptorChain, isDone: boolean): void {
    if (!queue.isOpen) return;
    if (!isDone) this.#counts.errors++;
    chain.writeU32(Response.RET, isDone ? Response.OK : Response.FAILED);
    queue.push(chain, Response.LENGTH);
  }
}
