import type { GuestMemory } from "@northbridge/core/contracts";
import { ringArea } from "./ring-area.ts";
import { ChainPool } from "./chain-pool.ts";
import type { DescriptorChain } from "./descriptor-chain.ts";
import { fence } from "./fence.ts";
import { RamRanges } from "./ram-ranges.ts";
import { Desc, DescFlag, EventFlag, Feature, MAX_SEGMENTS } from "./spec.ts";
import type { QueueFault, QueueSetup, QueueStateV1, VirtQueue } from "./virt-queue.ts";

const WRAP = 0x8000;
const AVAIL_USED = DescFlag.AVAIL | DescFlag.USED;
/** Event suppression structure: offset and wrap counter, then flags. */
const EVENT_LENGTH = 4;

/** The device's side of a packed virtqueue (virtio 1.3 §2.8). Positions are kept with their wrap counter. */
export class PackedQueue implements VirtQueue {
  readonly size: number;
  readonly #setup: QueueSetup;
  readonly #memory: GuestMemory;
  readonly #ram: RamRanges;
  readonly #chains: ChainPool;
  readonly #hasEventIdx: boolean;
  readonly #hasIndirect: boolean;
  readonly #ring: DataView;
  readonly #driver: DataView;
  readonly #device: DataView;
  #isOpen = true;
  #avail = 0;
  #availWrap = true;
  #used = 0;
  #usedWrap = true;
  /** Where the used position was when the driver was last told. */
  #shown = 0;
  #shownWrap = true;
  #isUnshown = false;
  /** Ring slots of the requests in flight. */
  #slots = 0;

  constructor(setup: QueueSetup) {
    const { size, addresses, features, memory } = setup;
    this.size = size;
    this.#setup = setup;
    this.#memory = memory;
    this.#ram = new RamRanges(memory);
    this.#chains = new ChainPool(memory, this.#ram);
    this.#hasEventIdx = features.has(Feature.EVENT_IDX);
    this.#hasIndirect = features.has(Feature.INDIRECT_DESC);
    const area = (gpa: number, length: number, alignment: number): DataView => {
      const found = ringArea(memory, this.#ram, { gpa, length, alignment, writable: true });
      if (typeof found !== "string") return found;
      if (this.#isOpen) this.#fail(found);
      return new DataView(new ArrayBuffer(length));
    };
    this.#ring = area(addresses.desc, Desc.LENGTH * size, 16);
    this.#driver = area(addresses.driver, EVENT_LENGTH, 4);
    this.#device = area(addresses.device, EVENT_LENGTH, 4);
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  pop(): DescriptorChain | undefined {
    if (!this.#isOpen) return undefined;
    const again = this.#chains.takeAgain();
    if (again !== undefined) return again;
    if (!this.#isAvailable()) return undefined;
    const chain = this.#chains.begin();
    const fault = this.#walk(chain);
    if (fault !== undefined) {
      this.#fail(fault);
      return undefined;
    }
    this.#chains.took(chain);
    this.#slots += chain.slots;
    this.#avail += chain.slots;
    if (this.#avail >= this.size) {
      this.#avail -= this.size;
      this.#availWrap = !this.#availWrap;
    }
    this.#setup.request();
    return chain;
  }

  push(chain: DescriptorChain, written: number): void {
    if (!this.#isOpen || !this.#chains.give(chain)) return;
    const at = Desc.LENGTH * this.#used;
    const flags = (this.#usedWrap ? AVAIL_USED : 0) | (written > 0 ? DescFlag.WRITE : 0);
    this.#ring.setUint32(at + Desc.LEN, written, true);
    this.#ring.setUint16(at + Desc.PACKED_ID, chain.id, true);
    fence(); // the flags hand the slot over (§2.8.22)
    this.#ring.setUint16(at + Desc.PACKED_FLAGS, flags, true);
    this.#memory.written(this.#setup.addresses.desc + at + Desc.LEN, Desc.LENGTH - Desc.LEN);
    this.#slots -= chain.slots;
    this.#used += chain.slots;
    if (this.#used >= this.size) {
      this.#used -= this.size;
      this.#usedWrap = !this.#usedWrap;
    }
    this.#isUnshown = true;
  }

  unpop(chain: DescriptorChain): void {
    if (this.#isOpen) this.#chains.putBack(chain);
  }

  flush(): void {
    if (!this.#isOpen || !this.#isUnshown) return;
    fence();
    const wants = this.#wantsInterrupt();
    this.#shown = this.#used;
    this.#shownWrap = this.#usedWrap;
    this.#isUnshown = false;
    if (wants) this.#setup.interrupt();
  }

  disableNotifications(): void {
    if (this.#isOpen) this.#setEvent(0, EventFlag.DISABLE);
  }

  enableNotifications(): boolean {
    if (!this.#isOpen) return true;
    if (this.#hasEventIdx) this.#setEvent(position(this.#avail, this.#availWrap), EventFlag.DESC);
    else this.#setEvent(0, EventFlag.ENABLE);
    fence();
    return !this.#isAvailable();
  }

  close(): void {
    this.#isOpen = false;
  }

  save(): QueueStateV1 {
    return {
      lastAvail: position(this.#avail, this.#availWrap),
      lastUsed: position(this.#used, this.#usedWrap),
      inFlight: this.#chains.save(),
    };
  }

  restore(state: QueueStateV1): void {
    this.#avail = state.lastAvail & (WRAP - 1);
    this.#availWrap = (state.lastAvail & WRAP) !== 0;
    this.#used = state.lastUsed & (WRAP - 1);
    this.#usedWrap = (state.lastUsed & WRAP) !== 0;
    this.#shown = this.#used;
    this.#shownWrap = this.#usedWrap;
    if (!this.#isOpen) return;
    if (!this.#chains.restore(state.inFlight)) this.#fail("bufferOutsideMemory");
    if (this.#avail >= this.size || this.#used >= this.size) this.#fail("availJump");
    for (const { slots } of state.inFlight) this.#slots += slots;
  }

  /** Whether the driver has made the descriptor at the available position available (§2.8.1). */
  #isAvailable(): boolean {
    const flags = this.#ring.getUint16(Desc.LENGTH * this.#avail + Desc.PACKED_FLAGS, true);
    const isMarked = (flags & DescFlag.AVAIL) !== 0;
    const isUsed = (flags & DescFlag.USED) !== 0;
    return isMarked === this.#availWrap && isUsed !== this.#availWrap;
  }

  #walk(chain: DescriptorChain): QueueFault | undefined {
    const ring = this.#ring;
    let index = this.#avail;
    for (let slots = 1; ; slots++) {
      if (this.#slots + slots > this.size) return "availJump";
      if (slots > MAX_SEGMENTS) return "chainTooLong";
      const at = Desc.LENGTH * index;
      const gpa = ring.getUint32(at, true) + ring.getUint32(at + 4, true) * 2 ** 32;
      const length = ring.getUint32(at + Desc.LEN, true);
      const flags = ring.getUint16(at + Desc.PACKED_FLAGS, true);
      chain.slots = slots;
      chain.id = ring.getUint16(at + Desc.PACKED_ID, true); // the last one counts (§2.8.6)
      const fault =
        (flags & DescFlag.INDIRECT) !== 0
          ? this.#indirect(chain, gpa, length, slots > 1 || (flags & DescFlag.NEXT) !== 0)
          : this.#segment(chain, gpa, length, (flags & DescFlag.WRITE) !== 0);
      if (fault !== undefined) return fault;
      if ((flags & DescFlag.NEXT) === 0) break;
      index = index + 1 === this.size ? 0 : index + 1;
    }
    return this.#chains.isInFlight(chain.id) ? "headInFlight" : undefined;
  }

  /** All descriptors of the table, in order; only WRITE means anything there (§2.8.7). */
  #indirect(chain: DescriptorChain, gpa: number, length: number, isChained: boolean): QueueFault | undefined {
    if (!this.#hasIndirect) return "indirectNotNegotiated";
    if (isChained) return "indirectWithNext";
    const count = length / Desc.LENGTH;
    if (count === 0 || !Number.isInteger(count) || count > MAX_SEGMENTS) return "indirectLength";
    if (!this.#ram.contains(gpa, length, false)) return "indirectOutsideMemory";
    const memory = this.#memory;
    for (let at = gpa; at < gpa + length; at += Desc.LENGTH) {
      const flags = memory.readU16(at + Desc.PACKED_FLAGS);
      if ((flags & DescFlag.INDIRECT) !== 0) return "indirectNested";
      const address = memory.readU32(at) + memory.readU32(at + 4) * 2 ** 32;
      const fault = this.#segment(
        chain,
        address,
        memory.readU32(at + Desc.LEN),
        (flags & DescFlag.WRITE) !== 0,
      );
      if (fault !== undefined) return fault;
    }
    return undefined;
  }

  #segment(chain: DescriptorChain, gpa: number, length: number, writable: boolean): QueueFault | undefined {
    if (length === 0) return undefined;
    if (!writable && chain.writableBytes > 0) return "readableAfterWritable";
    if (!this.#ram.contains(gpa, length, writable)) return "bufferOutsideMemory";
    chain.append(gpa, length, writable);
    return undefined;
  }

  #wantsInterrupt(): boolean {
    const flags = this.#driver.getUint16(2, true);
    if (flags === EventFlag.DISABLE) return false;
    if (flags !== EventFlag.DESC || !this.#hasEventIdx) return true;
    const event = this.#driver.getUint16(0, true);
    // Positions as distances from this lap's start: earlier laps are negative (§2.8.10).
    const at = (event & (WRAP - 1)) - (((event & WRAP) !== 0) === this.#usedWrap ? 0 : this.size);
    const from = this.#shown - (this.#shownWrap === this.#usedWrap ? 0 : this.size);
    return at >= from && at < this.#used;
  }

  #setEvent(off: number, flags: number): void {
    this.#device.setUint16(0, off, true);
    this.#device.setUint16(2, flags, true);
    this.#memory.written(this.#setup.addresses.device, EVENT_LENGTH);
  }

  #fail(fault: QueueFault): void {
    this.#isOpen = false;
    this.#setup.fail(fault);
  }
}

const position = (index: number, wrap: boolean): number => index | (wrap ? WRAP : 0);
