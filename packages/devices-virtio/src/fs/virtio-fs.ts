import type { DirectoryBackend } from "@northbridge/sdk";
import {
  type ConfigPart,
  type DescriptorChain,
  serve,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
  type VirtQueue,
} from "@northbridge/sdk/virtio";
import { HostOperations } from "../host-operations.ts";
import { expectVersion } from "../saved-state.ts";
import { FuseServer } from "./fuse-server.ts";
import { Config, HIPRIO_QUEUE, InHeader, TAG_LENGTH } from "./spec.ts";

const QUEUE_SIZE = 1024;
const HIPRIO_SIZE = 128;

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioFsStateV1 {
  readonly version: 1;
  readonly tree: unknown;
}

/**
 * File system device (virtio 1.3 §5.11): a directory of the host, mounted in the guest by its tag. Not modelled: the
 * DAX window, notifications, extended attributes, locks shared with the host.
 */
export class VirtioFs implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.FS;
  readonly features: readonly number[] = [];
  readonly queues: readonly number[];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly identity: readonly ConfigPart[] = [{ name: "tag", offset: Config.TAG, length: TAG_LENGTH }];
  readonly #tree: DirectoryBackend;
  readonly #server: FuseServer;
  readonly #busy: HostOperations;
  readonly #counts = { requests: 0, syncs: 0 };
  #session: VirtioSession | undefined;
  #isPaused = false;

  constructor(deps: {
    readonly tree: DirectoryBackend;
    /** At most 36 bytes. */
    readonly tag: string;
    readonly requestQueues?: number;
    /** How long the guest may go without asking whether the host changed something. @defaultValue 1000 */
    readonly cacheMs?: number;
  }) {
    const { tree, tag, requestQueues = 1, cacheMs = 1000 } = deps;
    this.#tree = tree;
    this.#server = new FuseServer(tree, { cacheMs });
    this.queues = [HIPRIO_SIZE, ...new Array<number>(requestQueues).fill(QUEUE_SIZE)];
    this.#busy = new HostOperations(this.queues.length);
    this.config.set(
      Uint8Array.from(tag, (char) => char.charCodeAt(0)),
      Config.TAG,
    );
    new DataView(this.config.buffer).setUint32(Config.NUM_REQUEST_QUEUES, requestQueues, true);
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    if (queue === undefined || this.#isPaused) return;
    serve(queue, (chain) => {
      this.#begin(index, queue, chain);
    });
  }

  reset(): Promise<void> | undefined {
    this.#session = undefined;
    const over = this.#busy.over();
    if (over === undefined) this.#tree.forgetAll();
    return over?.then(() => {
      this.#tree.forgetAll();
    });
  }

  resetQueue(index: number): Promise<void> | undefined {
    return this.#busy.over(index);
  }

  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#busy.over();
  }

  resume(): void {
    this.#isPaused = false;
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  save(): VirtioFsStateV1 {
    return { version: 1, tree: this.#tree.save() };
  }

  restore(state: unknown): void {
    const { version, tree } = state as VirtioFsStateV1;
    expectVersion("virtioFs", version);
    this.#tree.restore(tree);
  }

  #begin(index: number, queue: VirtQueue, chain: DescriptorChain): void {
    if (chain.readableBytes < InHeader.LENGTH) {
      this.#session?.fail("malformedRequest");
      return;
    }
    this.#counts.requests++;
    const outcome = this.#server.serve(chain);
    if (typeof outcome === "number") {
      queue.push(chain, index === HIPRIO_QUEUE ? Math.min(outcome, chain.writableBytes) : outcome);
      return;
    }
    this.#counts.syncs++;
    this.#busy.begin(index);
    void outcome.then((written) => {
      this.#busy.end(index);
      queue.push(chain, written);
      queue.flush();
    });
  }
}
