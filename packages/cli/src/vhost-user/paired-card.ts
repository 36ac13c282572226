import { netSpec } from "@northbridge/devices-virtio";
import { type IoWidth, RestoreError } from "@northbridge/sdk";
import {
  type DescriptorChain,
  type FeatureSet,
  serve,
  type VirtioDevice,
  type VirtioSession,
  type VirtQueue,
} from "@northbridge/sdk/virtio";
import type { ExternalDevice } from "@northbridge/vhost-user";

const { Ack, Class, Control, Feature, Mq } = netSpec;
const CONTROL_QUEUE_SIZE = 64;

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface PairedCardStateV1 {
  readonly version: 1;
  /** Queue pairs in use. */
  readonly pairs: number;
}

/**
 * A network card of several queue pairs whose frames another process carries. The control queue stays here (vhost-user:
 * Multiple queue support): the back end hears by its rings which pairs are in use. Of its commands there is that one
 * (virtio 1.3 §5.1.6.5.6).
 */
export class PairedCard implements VirtioDevice {
  readonly deviceId: number;
  readonly features: readonly number[];
  readonly queues: readonly number[];
  readonly config: Uint8Array;
  readonly #rings: ExternalDevice;
  readonly #maxPairs: number;
  #session: VirtioSession | undefined;
  #pairs = 1;
  #refused = 0;

  /** @param rings of all pairs; `CTRL_VQ` is among its own features, `MQ` among the back end's */
  constructor(rings: ExternalDevice) {
    this.#rings = rings;
    this.#maxPairs = rings.queues.length / 2;
    this.deviceId = rings.deviceId;
    this.features = rings.features;
    this.queues = [...rings.queues, CONTROL_QUEUE_SIZE];
    this.config = rings.config;
    void this.#usePairs(1);
  }

  writeConfig(offset: number, width: IoWidth, value: number): void {
    this.#rings.writeConfig(offset, width, value);
  }

  acceptFeatures(features: FeatureSet): boolean {
    return !features.has(Feature.MQ) || features.has(Feature.CTRL_VQ); // §5.1.3.1
  }

  start(session: VirtioSession): void {
    this.#session = session;
    const data = this.#hasPairs ? this.#rings.queues.length : 2;
    this.#rings.start({
      features: session.features,
      memory: session.memory,
      queue: (index) => (index < data ? session.queue(index) : undefined),
      configChanged: () => {
        session.configChanged();
      },
      fail: (reason) => {
        session.fail(reason);
      },
    });
  }

  notify(index: number): void {
    if (index === this.#controlQueue) this.#serveControl();
    else this.#rings.notify(index);
  }

  async reset(): Promise<void> {
    this.#session = undefined;
    void this.#usePairs(1);
    await this.#rings.reset();
  }

  async resetQueue(index: number): Promise<void> {
    if (index !== this.#controlQueue) await this.#rings.resetQueue(index);
  }

  async pause(): Promise<void> {
    await this.#rings.pause();
  }

  resume(): void {
    this.#rings.resume();
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#rings.stats(), pairs: this.#pairs, commandsRefused: this.#refused };
  }

  save(): PairedCardStateV1 {
    return { version: 1, pairs: this.#pairs };
  }

  restore(state: unknown): void {
    const { version, pairs } = state as PairedCardStateV1;
    const found: unknown = version;
    if (found !== 1) throw new RestoreError("vhostUserNet", `version ${String(found)}, expected 1`);
    if (pairs < 1 || pairs > this.#maxPairs)
      throw new RestoreError("vhostUserNet", `${pairs} queue pairs, expected at most ${this.#maxPairs}`);
    this.#rings.restore();
    void this.#usePairs(pairs);
  }

  get #hasPairs(): boolean {
    return this.#session?.features.has(Feature.MQ) === true;
  }

  /** Behind all pairs the driver knows of; undefined where it takes none (§5.1.2). */
  get #controlQueue(): number | undefined {
    if (this.#session?.features.has(Feature.CTRL_VQ) !== true) return undefined;
    return this.#hasPairs ? this.#rings.queues.length : 2;
  }

  #serveControl(): void {
    const queue = this.#session?.queue(this.#controlQueue ?? this.queues.length);
    if (queue === undefined) return;
    serve(queue, (chain) => {
      this.#command(queue, chain);
    });
  }

  #command(queue: VirtQueue, chain: DescriptorChain): void {
    const pairs = this.#pairsWanted(chain);
    if (pairs === undefined) {
      this.#refused++;
      queue.push(chain, chain.writeU8(0, Ack.ERR) ? 1 : 0);
      return;
    }
    // No frame may come by another pair once the driver has its answer.
    void this.#usePairs(pairs).then(() => {
      if (!queue.isOpen) return;
      queue.push(chain, chain.writeU8(0, Ack.OK) ? 1 : 0);
      queue.flush();
    });
  }

  #pairsWanted(chain: DescriptorChain): number | undefined {
    if (!this.#hasPairs || chain.readableBytes !== Control.DATA + 2) return undefined;
    const isKnown =
      chain.readU8(Control.CLASS) === Class.MQ && chain.readU8(Control.COMMAND) === Mq.VQ_PAIRS_SET;
    const pairs = chain.readU16(Control.DATA);
    return isKnown && pairs >= 1 && pairs <= this.#maxPairs ? pairs : undefined;
  }

  #usePairs(pairs: number): Promise<void> {
    this.#pairs = pairs;
    return this.#rings.useRings(2 * pairs);
  }
}
