import {
  DeviceQueue,
  type FeatureSet,
  type QueueAddresses,
  type QueueSetup,
  type QueueStateV1,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { type Inflight, InflightRegion } from "./inflight-region.ts";
import type { InflightMemory } from "./inflight-memory.ts";
import { PackedInflightRegion } from "./packed-inflight-region.ts";
import type { RegionTable } from "./region-table.ts";
import { Ring } from "./ring.ts";
import type { ServedDevice } from "./served-device.ts";

const { Feature, Ring: RingField } = virtioSpec;
/** The wrap counter of a position in a packed ring. */
const WRAP = 0x8000;

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

  /** As far as features are known. */
  get isPacked(): boolean {
    return this.#features?.has(Feature.RING_PACKED) === true;
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

  /** Moves all open queues onto other memory. One that has no place there, or requests that have none, waits for it. */
  async setTable(table: RegionTable): Promise<void> {
    if (!this.isAnyOpen) {
      this.#swapTable(table);
      return;
    }
    await this.#served.pause();
    for (const ring of this.#rings) {
      if (ring.queue?.isOpen !== true) continue;
      ring.queue.close();
      ring.waiting = ring.queue.save();
    }
    this.#swapTable(table);
    this.#served.setMemory(table.memory);
    for (const [index, ring] of this.#rings.entries()) {
      if (ring.waiting === undefined) continue;
      const isOpen = this.#reopen(ring, ring.waiting);
      if (isOpen) ring.waiting = undefined;
      if (ring.isEnabled) this.#served.setQueue(index, isOpen ? ring.queue : undefined);
    }
    this.#goOn();
  }

  /** Opens a queue again where it was. False where the memory for that is not there. */
  #reopen(ring: Ring, state: QueueStateV1): boolean {
    const { inflight } = ring;
    const table = this.#table;
    const addresses = this.#addresses(ring);
    if (addresses === undefined || inflight === undefined || this.#features === undefined) return false;
    const segments = state.inFlight.flatMap(({ readable, writable }) => [...readable, ...writable]);
    if (!segments.every(([gpa, length]) => table.contains(gpa, length))) return false;
    if (inflight instanceof PackedInflightRegion) {
      inflight.place = { memory: table.memory, gpa: addresses.desc };
    }
    ring.queue = this.#queue(ring, addresses, this.#features, inflight);
    ring.queue.restore(state);
    return true;
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
    const addresses = this.#addresses(ring);
    if (addresses === undefined) {
      this.#served.fail("ringOutsideMemory");
      return;
    }
    const { size, base = 0 } = ring;
    const overtaken = this.#served.opened(index, size);
    if (features.has(Feature.RING_PACKED)) {
      const place = { memory: this.#table.memory, gpa: addresses.desc };
      const kept = this.#inflight?.packedRegionOf(index, size, place);
      const known = overtaken instanceof PackedInflightRegion ? overtaken : undefined;
      const region = kept ?? known ?? PackedInflightRegion.own(size, place);
      region.place = place;
      ring.isKept = kept !== undefined;
      ring.inflight = region;
      ring.queue = this.#queue(ring, addresses, features, region);
      ring.queue.restore(region.recover(packedPositions(base, size)));
    } else {
      const kept = this.#inflight?.regionOf(index, size);
      const known = overtaken instanceof InflightRegion ? overtaken : undefined;
      const region = kept ?? known ?? InflightRegion.own(size);
      ring.isKept = kept !== undefined;
      ring.inflight = region;
      const queue = this.#queue(ring, addresses, features, region);
      ring.queue = queue;
      recover(queue, region, base, this.#usedIdx(ring));
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
    const { queue, inflight } = ring;
    if (queue === undefined) return ring.base ?? 0;
    queue.close(); // shows what was used
    const { lastAvail, lastUsed } = queue.save();
    // Where the front end keeps the notes, what is in flight is found there again; else the driver's ring has it.
    const again = ring.isKept ? 0 : inflight?.rewindable();
    if (again === undefined) this.#served.count("requestsOvertaken");
    const isPacked = inflight instanceof PackedInflightRegion;
    const told = isPacked
      ? ((lastUsed << 16) | (again === undefined || ring.isKept ? lastAvail : lastUsed)) >>> 0
      : (lastAvail - (again ?? 0)) & 0xffff;
    const overtaken = again === undefined ? inflight : undefined;
    this.#served.stoppedAt(index, { told, used: isPacked ? told : lastUsed, size: ring.size, overtaken });
    this.#served.setQueue(index, undefined);
    ring.queue = undefined;
    ring.waiting = undefined;
    return told;
  }

  #queue(ring: Ring, addresses: QueueAddresses, features: FeatureSet, journal: Inflight): DeviceQueue {
    const setup: QueueSetup = {
      size: ring.size,
      addresses,
      features,
      memory: this.#table.memory,
      journal,
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

/**
 * Positions of a packed ring as SET_VRING_BASE has them: available, and above it used. DPDK's drivers say the available
 * one alone, which both are when a driver starts: no ring has more in it than its size.
 */
function packedPositions(
  base: number,
  size: number,
): { readonly lastAvail: number; readonly lastUsed: number } {
  const [lastAvail, lastUsed] = [base & 0xffff, base >>> 16];
  const laps = ((lastAvail ^ lastUsed) & WRAP) === 0 ? 0 : size;
  const between = (lastAvail & (WRAP - 1)) + laps - (lastUsed & (WRAP - 1));
  const isPlausible = between >= 0 && between <= size && !(lastUsed === 0 && lastAvail === WRAP);
  return { lastAvail, lastUsed: isPlausible ? lastUsed : lastAvail };
}
