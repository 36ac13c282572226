import { type BlockBackend, type GuestMemory, type MemorySlot, RestoreError } from "@northbridge/sdk";
import {
  type DescriptorChain,
  serve,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
  type VirtQueue,
} from "@northbridge/sdk/virtio";
import { Config, Request, Response } from "./spec.ts";

const QUEUE_SIZE = 64;
const PAGE = 4096;
/** Looked through before the event loop comes round again. */
const PIECE = 4 << 20;

/**
 * Persistent memory (virtio 1.3 §5.19): a range of guest memory beside RAM whose content is a file's. The file is
 * loaded when the machine is made; a FLUSH writes the pages back that differ from it, and syncs it. What the guest has
 * not flushed is lost when the machine ends, as on a medium with a volatile cache.
 */
export class VirtioPmem implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.PMEM;
  readonly features: readonly number[] = [];
  readonly queues: readonly number[] = [QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly #slot: MemorySlot;
  readonly #backend: BlockBackend;
  /** What the file has. */
  readonly #stored: Uint8Array;
  readonly #counts = { flushes: 0, pagesWritten: 0, errors: 0 };
  #session: VirtioSession | undefined;
  #isPaused = false;
  /** Flushes happen one after the other: this is the last. */
  #flushing: Promise<void> | undefined;

  private constructor(slot: MemorySlot, backend: BlockBackend) {
    this.#slot = slot;
    this.#backend = backend;
    this.#stored = new Uint8Array(slot.length);
    const view = new DataView(this.config.buffer);
    for (const [at, value] of [
      [Config.START, slot.gpa],
      [Config.SIZE, slot.length],
    ] as const) {
      view.setUint32(at, value >>> 0, true);
      view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
    }
  }

  /** Loads the file into the slot, which has its size. */
  static async load(deps: {
    readonly slot: MemorySlot;
    readonly memory: GuestMemory;
    readonly backend: BlockBackend;
  }): Promise<VirtioPmem> {
    const { slot, memory, backend } = deps;
    const device = new VirtioPmem(slot, backend);
    for (let at = 0; at < slot.length; at += PIECE) {
      await backend.read(at, [slot.bytes.subarray(at, Math.min(at + PIECE, slot.length))]);
    }
    device.#stored.set(slot.bytes);
    memory.written(slot.gpa, slot.length);
    return device;
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
    await this.#flushing;
  }

  resume(): void {
    this.#isPaused = false;
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  /** The content is in the machine's memory. */
  save(): { readonly version: 1 } {
    return { version: 1 };
  }

  restore(state: unknown): void {
    const { version } = state as { readonly version: unknown };
    if (version !== 1) throw new RestoreError("virtioPmem", `version ${String(version)}, expected 1`);
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
      .then(() => this.#writeBack())
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

  /** Writes runs of pages that differ from the file. They are written from a copy: the guest goes on meanwhile. */
  async #writeBack(): Promise<void> {
    const { bytes } = this.#slot;
    const stored = this.#stored;
    for (let piece = 0; piece < bytes.length; piece += PIECE) {
      const end = Math.min(piece + PIECE, bytes.length);
      for (let at = nextDifferent(bytes, stored, piece, end); at < end; ) {
        let stop = at + PAGE;
        while (stop < end && isDifferent(bytes, stored, stop)) stop += PAGE;
        const run = bytes.slice(at, stop);
        await this.#backend.write(at, [run]);
        stored.set(run, at); // after the write: what failed is tried again
        this.#counts.pagesWritten += run.length / PAGE;
        at = nextDifferent(bytes, stored, stop, end);
      }
    }
    await this.#backend.flush();
  }
}

const WORDS = PAGE / 4;

/** Whether the page at `at` is not as stored. */
function isDifferent(bytes: Uint8Array, stored: Uint8Array, at: number): boolean {
  const now = new Uint32Array(bytes.buffer, bytes.byteOffset + at, WORDS);
  const then = new Uint32Array(stored.buffer, stored.byteOffset + at, WORDS);
  for (let i = 0; i < WORDS; i++) if (now[i] !== then[i]) return true;
  return false;
}

function nextDifferent(bytes: Uint8Array, stored: Uint8Array, from: number, end: number): number {
  let at = from;
  while (at < end && !isDifferent(bytes, stored, at)) at += PAGE;
  return at;
}
