import type { DescriptorChain } from "./descriptor-chain.ts";
import { fence } from "./fence.ts";
import { ringArea } from "./ring-area.ts";
import { AvailFlag, Desc, DescFlag, MAX_SEGMENTS, Ring, UsedFlag } from "./spec.ts";
import type { QueueFault, QueueSetup } from "./virt-queue.ts";
import type { RingMemory, VirtqueueRing } from "./virtqueue-ring.ts";

/** A split virtqueue (virtio 1.3 §2.7). */
export class SplitRing implements VirtqueueRing {
  readonly #size: number;
  readonly #memory: RingMemory;
  readonly #usedGpa: number;
  readonly #desc: DataView;
  readonly #avail: DataView;
  readonly #used: DataView;
  #lastAvail = 0;
  /** Available index as last read: requests before it need no look at memory. */
  #knownAvail = 0;
  #lastUsed = 0;
  /** Used index as the driver sees it. */
  #shownUsed = 0;

  constructor({ size, addresses }: QueueSetup, memory: RingMemory) {
    const { desc, driver, device } = addresses;
    this.#size = size;
    this.#memory = memory;
    this.#usedGpa = device;
    const availLength = Ring.RING + Ring.AVAIL_ENTRY * size + 2;
    const usedLength = Ring.RING + Ring.USED_ENTRY * size + 2;
    this.#avail = memory.area({ gpa: driver, length: availLength, alignment: 2, writable: false });
    this.#used = memory.area({ gpa: device, length: usedLength, alignment: 4, writable: true });
    this.#desc = memory.area({ gpa: desc, length: Desc.LENGTH * size, alignment: 16, writable: false });
  }

  get lastAvail(): number {
    return this.#lastAvail;
  }

  get lastUsed(): number {
    return this.#lastUsed;
  }

  isAvailable(): boolean {
    if (this.#lastAvail === this.#knownAvail) this.#knownAvail = this.#avail.getUint16(Ring.IDX, true);
    return this.#lastAvail !== this.#knownAvail;
  }

  take(chain: DescriptorChain): QueueFault | undefined {
    if (((this.#knownAvail - this.#lastAvail) & 0xffff) > this.#size) return "availJump";
    const slot = Ring.RING + Ring.AVAIL_ENTRY * (this.#lastAvail & (this.#size - 1));
    const head = this.#avail.getUint16(slot, true);
    this.#lastAvail = (this.#lastAvail + 1) & 0xffff;
    return this.read(chain, head);
  }

  /** Fills an empty chain with the request that starts at `head`: follows the descriptors (§2.7.5). */
  read(chain: DescriptorChain, head: number): QueueFault | undefined {
    if (head >= this.#size) return "headOutOfRange";
    chain.id = head;
    let table: DataView = this.#desc;
    let length = this.#size;
    let limit = Math.min(length, MAX_SEGMENTS);
    let index = head;
    let isIndirect = false;
    for (let steps = 0; ; ) {
      if (steps++ >= limit) return "chainTooLong"; // a loop, too
      const at = Desc.LENGTH * index;
      const gpa = table.getUint32(at, true) + table.getUint32(at + 4, true) * 2 ** 32;
      const len = table.getUint32(at + Desc.LEN, true);
      const flags = table.getUint16(at + Desc.FLAGS, true);
      if ((flags & DescFlag.INDIRECT) !== 0) {
        if (!this.#memory.hasIndirect) return "indirectNotNegotiated";
        if (isIndirect) return "indirectNested";
        if ((flags & DescFlag.NEXT) !== 0) return "indirectWithNext";
        length = len / Desc.LENGTH;
        if (length === 0 || !Number.isInteger(length) || length > MAX_SEGMENTS) return "indirectLength";
        const place = { gpa, length: len, alignment: 1, writable: false };
        const indirect = ringArea(this.#memory.memory, this.#memory.ram, place);
        if (typeof indirect === "string") return "indirectOutsideMemory";
        table = indirect;
        index = 0;
        steps = 0;
        limit = length;
        isIndirect = true;
        continue;
      }
      const fault = this.#memory.append(chain, gpa, len, (flags & DescFlag.WRITE) !== 0);
      if (fault !== undefined) return fault;
      if ((flags & DescFlag.NEXT) === 0) return undefined;
      index = table.getUint16(at + Desc.NEXT, true);
      if (index >= length) return "nextOutOfRange";
    }
  }

  use(chain: DescriptorChain, written: number): void {
    const slot = Ring.RING + Ring.USED_ENTRY * (this.#lastUsed & (this.#size - 1));
    this.#used.setUint32(slot, chain.id, true);
    this.#used.setUint32(slot + 4, written, true);
    this.#lastUsed = (this.#lastUsed + 1) & 0xffff;
  }

  show(): boolean {
    const before = this.#shownUsed;
    const now = this.#lastUsed;
    if (before === now) return false;
    this.#used.setUint16(Ring.IDX, now, true);
    this.#shownUsed = now;
    this.#memory.memory.written(this.#usedGpa, this.#used.byteLength);
    fence(); // the index before the look whether the driver wants to hear of it (§2.7.7.2)
    if (!this.#memory.hasEventIdx)
      return (this.#avail.getUint16(Ring.FLAGS, true) & AvailFlag.NO_INTERRUPT) === 0;
    const event = this.#avail.getUint16(Ring.RING + Ring.AVAIL_ENTRY * this.#size, true);
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  disableNotifications(): void {
    if (!this.#memory.hasEventIdx) this.#setUsed(Ring.FLAGS, UsedFlag.NO_NOTIFY);
  }

  enableNotifications(): boolean {
    if (this.#memory.hasEventIdx) this.#setUsed(Ring.RING + Ring.USED_ENTRY * this.#size, this.#lastAvail);
    else this.#setUsed(Ring.FLAGS, 0);
    fence();
    return this.#avail.getUint16(Ring.IDX, true) === this.#lastAvail;
  }

  restore(lastAvail: number, lastUsed: number): QueueFault | undefined {
    this.#lastAvail = lastAvail;
    this.#knownAvail = lastAvail;
    this.#lastUsed = lastUsed;
    this.#shownUsed = lastUsed;
    return undefined;
  }

  #setUsed(offset: number, value: number): void {
    this.#used.setUint16(offset, value, true);
    this.#memory.memory.written(this.#usedGpa + offset, 2);
  }
}
