import { type DirectoryBackend, RestoreError } from "@northbridge/sdk";
import {
  type ConfigPart,
  type DescriptorChain,
  serve,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
  type VirtQueue,
} from "@northbridge/sdk/virtio";
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
  /** By queue: host operations under way. */
  readonly #busy: Set<Promise<void>>[];
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
    this.#busy = this.queues.map(() => new Set());
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
    const busy = this.#busy.flatMap((operations) => [...operations]);
    if (busy.length > 0) {
      return Promise.all(busy).then(() => {
        this.#tree.forgetAll();
      });
    }
    this.#tree.forgetAll();
    return undefined;
  }

  resetQueue(index: number): Promise<void> | undefined {
    const busy = [...(this.#busy[index] ?? [])];
    return busy.length === 0 ? undefined : Promise.all(busy).then(() => undefined);
  }

  async pause(): Promise<void> {
    this.#isPaused = true;
    await Promise.all(this.#busy.flatMap((busy) => [...busy]));
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
    const found: unknown = version;
    if (found !== 1) throw new RestoreError("virtioFs", `version ${String(found)}, expected 1`);
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
    const busy = this.#busy[index];
    const settled = outcome.then((written) => {
      busy?.delete(settled);
      queue.push(chain, written);
      queue.flush();
    });
    busy?.add(settled);
  }
}
