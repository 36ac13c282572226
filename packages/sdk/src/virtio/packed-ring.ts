import type { DescriptorChain } from "./descriptor-chain.ts";
import { fence } from "./fence.ts";
import { Desc, DescFlag, EventFlag, MAX_SEGMENTS } from "./spec.ts";
import type { QueueFault, QueueSetup } from "./virt-queue.ts";
import type { RingMemory, VirtqueueRing } from "./virtqueue-ring.ts";

const WRAP = 0x8000;
const AVAIL_USED = DescFlag.AVAIL | DescFlag.USED;
/** Event suppression structure: offset and wrap counter, then flags. */
const EVENT_LENGTH = 4;

/** A packed virtqueue (virtio 1.3 §2.8). Positions are kept with their wrap counter. */
export class PackedRing implements VirtqueueRing {
  readonly #size: number;
  readonly #memory: RingMemory;
  readonly #ringGpa: number;
  readonly #deviceGpa: number;
  readonly #ring: DataView;
  readonly #driver: DataView;
  readonly #device: DataView;
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

  constructor({ size, addresses }: QueueSetup, memory: RingMemory) {
    this.#size = size;
    this.#memory = memory;
    this.#ringGpa = addresses.desc;
    this.#deviceGpa = addresses.device;
    const area = (gpa: number, length: number, alignment: number): DataView =>
      memory.area({ gpa, length, alignment, writable: true });
    this.#ring = area(addresses.desc, Desc.LENGTH * size, 16);
    this.#driver = area(addresses.driver, EVENT_LENGTH, 4);
    this.#device = area(addresses.device, EVENT_LENGTH, 4);
  }

  get lastAvail(): number {
    return position(this.#avail, this.#availWrap);
  }

  get lastUsed(): number {
    return position(this.#used, this.#usedWrap);
  }

  /** §2.8.1. */
  isAvailable(): boolean {
    const flags = this.#ring.getUint16(Desc.LENGTH * this.#avail + Desc.PACKED_FLAGS, true);
    const isMarked = (flags & DescFlag.AVAIL) !== 0;
    const isUsed = (flags & DescFlag.USED) !== 0;
    return isMarked === this.#availWrap && isUsed !== this.#availWrap;
  }

  take(chain: DescriptorChain): QueueFault | undefined {
    const fault = this.#walk(chain);
    if (fault !== undefined) return fault;
    this.#slots += chain.slots;
    this.#avail += chain.slots;
    if (this.#avail >= this.#size) {
      this.#avail -= this.#size;
      this.#availWrap = !this.#availWrap;
    }
    return undefined;
  }

  use(chain: DescriptorChain, written: number): void {
    const at = Desc.LENGTH * this.#used;
    const flags = (this.#usedWrap ? AVAIL_USED : 0) | (written > 0 ? DescFlag.WRITE : 0);
    this.#ring.setUint32(at + Desc.LEN, written, true);
    this.#ring.setUint16(at + Desc.PACKED_ID, chain.id, true);
    fence(); // the flags hand the slot over (§2.8.22)
    this.#ring.setUint16(at + Desc.PACKED_FLAGS, flags, true);
    this.#memory.memory.written(this.#ringGpa + at + Desc.LEN, Desc.LENGTH - Desc.LEN);
    this.#slots -= chain.slots;
    this.#used += chain.slots;
    if (this.#used >= this.#size) {
      this.#used -= this.#size;
      this.#usedWrap = !this.#usedWrap;
    }
    this.#isUnshown = true;
  }

  show(): boolean {
    if (!this.#isUnshown) return false;
    fence();
    const wants = this.#wantsInterrupt();
    this.#shown = this.#used;
    this.#shownWrap = this.#usedWrap;
    this.#isUnshown = false;
    return wants;
  }

  disableNotifications(): void {
    this.#setEvent(0, EventFlag.DISABLE);
  }

  enableNotifications(): boolean {
    if (this.#memory.hasEventIdx) this.#setEvent(this.lastAvail, EventFlag.DESC);
    else this.#setEvent(0, EventFlag.ENABLE);
    fence();
    return !this.isAvailable();
  }

  restore(lastAvail: number, lastUsed: number, slots: number): QueueFault | undefined {
    this.#avail = lastAvail & (WRAP - 1);
    this.#availWrap = (lastAvail & WRAP) !== 0;
    this.#used = lastUsed & (WRAP - 1);
    this.#usedWrap = (lastUsed & WRAP) !== 0;
    this.#shown = this.#used;
    this.#shownWrap = this.#usedWrap;
    this.#slots = slots;
    return this.#avail >= this.#size || this.#used >= this.#size ? "availJump" : undefined;
  }

  #walk(chain: DescriptorChain): QueueFault | undefined {
    const ring = this.#ring;
    let index = this.#avail;
    for (let slots = 1; ; slots++) {
      if (this.#slots + slots > this.#size) return "availJump";
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
          : this.#memory.append(chain, gpa, length, (flags & DescFlag.WRITE) !== 0);
      if (fault !== undefined) return fault;
      if ((flags & DescFlag.NEXT) === 0) return undefined;
      index = index + 1 === this.#size ? 0 : index + 1;
    }
  }

  /** All descriptors of the table, in order; only WRITE means anything there (§2.8.7). */
  #indirect(chain: DescriptorChain, gpa: number, length: number, isChained: boolean): QueueFault | undefined {
    if (!this.#memory.hasIndirect) return "indirectNotNegotiated";
    if (isChained) return "indirectWithNext";
    const count = length / Desc.LENGTH;
    if (count === 0 || !Number.isInteger(count) || count > MAX_SEGMENTS) return "indirectLength";
    if (!this.#memory.ram.contains(gpa, length, false)) return "indirectOutsideMemory";
    const { memory } = this.#memory;
    for (let at = gpa; at < gpa + length; at += Desc.LENGTH) {
      const flags = memory.readU16(at + Desc.PACKED_FLAGS);
      if ((flags & DescFlag.INDIRECT) !== 0) return "indirectNested";
      const address = memory.readU32(at) + memory.readU32(at + 4) * 2 ** 32;
      const writable = (flags & DescFlag.WRITE) !== 0;
      const fault = this.#memory.append(chain, address, memory.readU32(at + Desc.LEN), writable);
      if (fault !== undefined) return fault;
    }
    return undefined;
  }

  #wantsInterrupt(): boolean {
    const flags = this.#driver.getUint16(2, true);
    if (flags === EventFlag.DISABLE) return false;
    if (flags !== EventFlag.DESC || !this.#memory.hasEventIdx) return true;
    const event = this.#driver.getUint16(0, true);
    // Positions as distances from this lap's start: earlier laps are negative (§2.8.10).
    const at = (event & (WRAP - 1)) - (((event & WRAP) !== 0) === this.#usedWrap ? 0 : this.#size);
    const from = this.#shown - (this.#shownWrap === this.#usedWrap ? 0 : this.#size);
    return at >= from && at < this.#used;
  }

  #setEvent(off: number, flags: number): void {
    this.#device.setUint16(0, off, true);
    this.#device.setUint16(2, flags, true);
    this.#memory.memory.written(this.#deviceGpa, EVENT_LENGTH);
  }
}

const position = (index: number, wrap: boolean): number => index | (wrap ? WRAP : 0);
