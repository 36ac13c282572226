import { addSeals, close, createMemfd, EventFd, FdWatch, Seal, SharedMapping } from "@northbridge/linux";
import type { VirtioTarget } from "@northbridge/sdk/conformance";
import { FakeMemory } from "@northbridge/sdk/testing";
import { type FeatureSet, type QueueAddresses, virtioSpec } from "@northbridge/sdk/virtio";
import { FrontEnd } from "../frontend/front-end.ts";
import { VhostFeature } from "../protocol/spec.ts";

const MEMORY_BYTES = 16 << 20;
const MEMORY_GPA = 0x10_0000;
/** Any address that is not the guest-physical one. */
const USER_ADDRESS = 0x7f00_0000_0000;
/** How long a back end has for what it must do, and for what it must not do. */
const PATIENCE_MS = 10_000;
const LINGER_MS = 20;

export interface VhostUserTargetOptions {
  /** Queues to use, and the largest size of each. */
  readonly queueSizes: readonly number[];
}

/**
 * A device behind a vhost-user socket as the conformance suite reaches it: a driver's memory, shared with the back
 * end, and the front end's side of the protocol. Connects anew after a reset that the back end does not know.
 */
export class VhostUserTarget implements VirtioTarget {
  readonly memory: FakeMemory;
  readonly queueSizes: readonly number[];
  readonly #front: FrontEnd;
  readonly #memfd: number;
  readonly #mapping: SharedMapping;
  readonly #rings: Ring[] = [];
  #features: FeatureSet | undefined;

  private constructor(front: FrontEnd, queueSizes: readonly number[]) {
    this.#front = front;
    this.queueSizes = queueSizes;
    this.#memfd = createMemfd("conformance", MEMORY_BYTES);
    addSeals(this.#memfd, Seal.SHRINK | Seal.GROW);
    this.#mapping = new SharedMapping(this.#memfd, MEMORY_BYTES, "conformance");
    this.memory = new FakeMemory(new Uint8Array(this.#mapping.buffer, 0, MEMORY_BYTES), MEMORY_GPA);
  }

  /** Connects to the back end at `path`. Throws `NB_HOST`. */
  static async connect(path: string, { queueSizes }: VhostUserTargetOptions): Promise<VhostUserTarget> {
    return VhostUserTarget.over(FrontEnd.connect(path), queueSizes);
  }

  /** Over a connection there is. */
  static async over(front: FrontEnd, queueSizes: readonly number[]): Promise<VhostUserTarget> {
    const target = new VhostUserTarget(front, queueSizes);
    try {
      await front.negotiate();
    } catch (error) {
      await target.close();
      throw error;
    }
    return target;
  }

  /** What the back end offers to a driver. */
  get offered(): FeatureSet {
    const { features } = this.#front;
    const own = (1 << VhostFeature.PROTOCOL_FEATURES) | (1 << VhostFeature.LOG_ALL);
    return features.withWord(0, features.low & ~own);
  }

  config(length: number): Promise<Uint8Array | undefined> {
    return this.#front.config(length);
  }

  async negotiate(features: FeatureSet): Promise<boolean> {
    try {
      await this.#front.setFeatures(features);
    } catch {
      return false;
    }
    this.#features = features;
    return true;
  }

  enableQueue(index: number, size: number, addresses: QueueAddresses): Promise<void> {
    this.#rings.push(new Ring(index, size, addresses));
    return Promise.resolve();
  }

  async driverOk(): Promise<void> {
    const region = {
      gpa: MEMORY_GPA,
      size: MEMORY_BYTES,
      userAddress: USER_ADDRESS,
      fd: this.#memfd,
      offset: 0,
    };
    await this.#front.setMemory([region]);
    // Positions of a packed ring come with their wrap counters (vhost-user: Vring base).
    const base = this.#features?.has(virtioSpec.Feature.RING_PACKED) === true ? 0x8000_8000 : 0;
    const user = (gpa: number): number => gpa - MEMORY_GPA + USER_ADDRESS;
    for (const { index, size, addresses, kick, call } of this.#rings) {
      const { desc, driver, device } = addresses;
      const place = { size, base, desc: user(desc), avail: user(driver), used: user(device) };
      await this.#front.startRing(index, place, kick, call);
    }
    for (const { index } of this.#rings) await this.#front.enableRing(index, true);
  }

  notify(index: number): void {
    this.#rings.find((ring) => ring.index === index)?.kick.signal();
  }

  interrupts(index: number): number {
    return this.#rings.find((ring) => ring.index === index)?.interrupts ?? 0;
  }

  status(): undefined {
    return undefined;
  }

  async until(condition: () => boolean): Promise<boolean> {
    for (const end = performance.now() + PATIENCE_MS; performance.now() < end; ) {
      if (condition()) return true;
      await new Promise((resolve) => setImmediate(resolve));
    }
    return condition();
  }

  async linger(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, LINGER_MS));
  }

  /** Stops all rings, which is all of a reset that every back end knows. */
  async reset(): Promise<boolean> {
    if (this.#features === undefined) return true;
    for (const { index } of this.#rings) await this.#front.stopRing(index);
    await this.#front.reset();
    for (const ring of this.#rings.splice(0)) ring.close();
    return true;
  }

  close(): Promise<void> {
    this.#front.close();
    for (const ring of this.#rings.splice(0)) ring.close();
    this.#mapping.unmap();
    close(this.#memfd);
    return Promise.resolve();
  }
}

/** A ring and its two counters. */
class Ring {
  readonly index: number;
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly kick = new EventFd();
  readonly call = new EventFd();
  interrupts = 0;
  readonly #watch: FdWatch;

  constructor(index: number, size: number, addresses: QueueAddresses) {
    this.index = index;
    this.size = size;
    this.addresses = addresses;
    this.#watch = new FdWatch(this.call.fd, () => {
      if (this.call.drain() > 0n) this.interrupts++;
    });
  }

  close(): void {
    this.#watch.close();
    this.kick.close();
    this.call.close();
  }
}
