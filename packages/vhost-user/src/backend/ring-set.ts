import {
  DeviceQueue,
  type FeatureSet,
  type QueueAddresses,
  type QueueSetup,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { InflightRegion } from "./inflight-region.ts";
import type { InflightMemory } from "./inflight-memory.ts";
import type { RegionTable } from "./region-table.ts";
import { Ring } from "./ring.ts";
import type { ServedDevice } from "./served-device.ts";
import { TrackedQueue } from "./tracked-queue.ts";

const { Feature, Ring: RingField } = virtioSpec;

/** All that one connection knows of its rings: opens a queue once everything of it is known. */
export class RingSet {
  readonly #served: ServedDevice;
  readonly #rings: readonly Ring[];
  #table: RegionTable;
  #features: FeatureSet | undefined;
  #inflight: InflightMemory | undefined;

  constructor(served: ServedDevice, table: RegionTable) {
    this.#served = served;
    this.#table = table;
    this.#rings = served.device.queues.map(() => new Ring(false));
  }

  get table(): RegionTable {
    return this.#table;
  }

  get count(): number {
    return this.#rings.length;
  }

  get isAnyOpen(): boolean {
    return this.#rings.some(({ queue }) => queue !== undefined);
  }

  at(index: number): Ring | undefined {
    return this.#rings[index];
  }

  /** Features that the queues opened from now on have. `enabled`: rings need not be enabled one by one. */
  setFeatures(features: FeatureSet, enabled: boolean): void {
    this.#features = features;
    if (enabled) for (const ring of this.#rings) ring.isEnabled = true;
  }

  setInflight(inflight: InflightMemory): void {
    this.#inflight?.close();
    this.#inflight = inflight;
  }

  /** Opens the queues of all rings that are ready. */
  async sync(): Promise<void> {
    for (const [index, ring] of this.#rings.entries()) {
      const isReady = ring.isStarted && ring.isEnabled && ring.size > 0 && ring.addresses !== undefined;
      if (!isReady || ring.queue !== undefined || this.#features === undefined) continue;
      if (this.isAnyOpen && !this.#served.goesOnAt(index, baseOf(ring))) await this.#startAnew();
      if (!this.isAnyOpen) {
        await this.#served.start(this.#features, this.#table.memory, this.#rings.map(baseOf));
      }
      this.#open(index, ring, this.#features);
    }
  }

  /** The rings that are open already were a new driver's: what they hold is served by a device that was reset. */
  async #startAnew(): Promise<void> {
    const open = this.#rings.filter(({ queue }) => queue !== undefined);
    await this.stopAll();
    await this.#served.reset();
    for (const ring of open) ring.isStarted = true;
    if (this.#features === undefined) return;
    await this.#served.start(this.#features, this.#table.memory, []);
    for (const ring of open) this.#open(this.#rings.indexOf(ring), ring, this.#features);
  }

  kicked(index: number): void {
    this.#served.count("kicks");
    this.#served.notify(index);
  }

  /** Shows the queue to the device, or hides it. */
  enable(index: number, ring: Ring, isEnabled: boolean): void {
    ring.isEnabled = isEnabled;
    if (ring.queue === undefined) return;
    this.#served.setQueue(index, isEnabled ? ring.queue : undefined);
    if (isEnabled) this.#served.notify(index);
  }

  /** Stops a ring: the position in the available ring from which it goes on. */
  async stop(index: number, ring: Ring): Promise<number> {
    ring.isStarted = false;
    if (ring.queue === undefined) return ring.base ?? 0;
    await this.#served.pause();
    const told = this.#close(index, ring);
    ring.base = told;
    ring.isBaseSet = false;
    if (this.isAnyOpen) this.#goOn();
    return told;
  }

  async stopAll(): Promise<void> {
    for (const [index, ring] of this.#rings.entries()) await this.stop(index, ring);
  }

  /** Moves all open queues onto other memory. */
  async setTable(table: RegionTable): Promise<void> {
    if (!this.isAnyOpen) {
      this.#swapTable(table);
      return;
    }
    await this.#served.pause();
    const saved = this.#rings.map(({ queue }) => queue?.save());
    this.#swapTable(table);
    this.#served.setMemory(table.memory);
    for (const [index, ring] of this.#rings.entries()) {
      const state = saved[index];
      if (state === undefined || ring.queue?.isOpen !== true || this.#features === undefined) continue;
      ring.queue.close();
      const queue = this.#queue(ring, this.#features);
      if (queue === undefined) continue;
      ring.queue = ring.region === undefined ? queue : new TrackedQueue(queue, ring.region);
      ring.queue.restore(state);
      if (ring.isEnabled) this.#served.setQueue(index, ring.queue);
    }
    this.#goOn();
  }

  signalErrors(): void {
    for (const ring of this.#rings) ring.signalError();
  }

  /** After `stopAll`. */
  close(): void {
    for (const ring of this.#rings) ring.close();
    this.#table.unmapUnless(undefined);
    this.#inflight?.close();
  }

  #swapTable(table: RegionTable): void {
    this.#table.unmapUnless(table);
    this.#table = table;
  }

  #goOn(): void {
    this.#served.resume();
    for (const [index, { queue }] of this.#rings.entries())
      if (queue !== undefined) this.#served.notify(index);
  }

  #open(index: number, ring: Ring, features: FeatureSet): void {
    const queue = this.#queue(ring, features);
    if (queue === undefined) return;
    const base = ring.base ?? 0;
    const overtaken = this.#served.opened(index);
    if (!features.has(Feature.RING_PACKED)) {
      ring.region = this.#inflight?.regionOf(index, ring.size) ?? overtaken ?? InflightRegion.own(ring.size);
      ring.queue = new TrackedQueue(queue, ring.region);
      recover(queue, ring.region, base, this.#usedIdx(ring));
    } else {
      ring.region = undefined;
      ring.queue = queue;
      queue.restore({ lastAvail: base & 0xffff, lastUsed: base >>> 16, inFlight: [] });
    }
    this.#served.setQueue(index, ring.queue);
    this.#served.resume();
    // Whoever served it before may have died between the used ring and the interrupt.
    if (base !== 0) ring.call?.signal();
    this.#served.notify(index);
  }

  #usedIdx(ring: Ring): number {
    const gpa = this.#table.gpaOf(ring.addresses?.used ?? 0);
    return gpa === undefined ? 0 : this.#table.memory.readU16(gpa + RingField.IDX);
  }

  /** The position the front end is told. */
  #close(index: number, ring: Ring): number {
    const { queue, region } = ring;
    if (queue === undefined) return ring.base ?? 0;
    const { lastAvail, lastUsed } = queue.save();
    let told = ((lastUsed << 16) | lastAvail) >>> 0;
    let used = told;
    let overtaken: InflightRegion | undefined;
    if (region !== undefined) {
      // Where the front end keeps the region, what is in flight is found there again; else the driver's ring has it.
      const again = this.#inflight?.regionOf(index, ring.size) === undefined ? region.rewindable() : 0;
      if (again === undefined) {
        this.#served.count("requestsOvertaken");
        overtaken = region;
      }
      told = (lastAvail - (again ?? 0)) & 0xffff;
      used = lastUsed;
    }
    this.#served.stoppedAt(index, { told, used, overtaken });
    this.#served.setQueue(index, undefined);
    queue.close();
    ring.queue = undefined;
    return told;
  }

  #queue(ring: Ring, features: FeatureSet): DeviceQueue | undefined {
    const addresses = this.#addresses(ring);
    if (addresses === undefined) {
      this.#served.fail("ringOutsideMemory");
      return undefined;
    }
    const setup: QueueSetup = {
      size: ring.size,
      addresses,
      features,
      memory: this.#table.memory,
      interrupt: () => {
        this.#served.count("calls");
        ring.call?.signal();
      },
      request: () => {
        this.#served.requested();
      },
      fail: (fault) => {
        this.#served.fail(fault);
      },
    };
    return new DeviceQueue(setup);
  }

  #addresses({ addresses }: Ring): QueueAddresses | undefined {
    if (addresses === undefined) return undefined;
    const desc = this.#table.gpaOf(addresses.desc);
    const driver = this.#table.gpaOf(addresses.avail);
    const device = this.#table.gpaOf(addresses.used);
    return desc === undefined || driver === undefined || device === undefined
      ? undefined
      : { desc, driver, device };
  }
}

/** Where the front end says that a ring goes on; undefined where it has not said. */
const baseOf = ({ base, isBaseSet }: Ring): number | undefined => (isBaseSet ? base : undefined);

/** Puts a new queue where the front end says, or, after a crash, where the region says. */
function recover(queue: DeviceQueue, region: InflightRegion, base: number, usedIdx: number): void {
  const heads = region.recover(usedIdx);
  const lastAvail = heads.length > 0 ? usedIdx + heads.length : base;
  queue.restore({ lastAvail: lastAvail & 0xffff, lastUsed: usedIdx, inFlight: [] });
  queue.retake(heads);
}
