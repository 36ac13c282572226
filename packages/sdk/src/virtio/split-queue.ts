import type { GuestMemory } from "@northbridge/core/contracts";
import { ChainPool } from "./chain-pool.ts";
import type { DescriptorChain } from "./descriptor-chain.ts";
import { fence } from "./fence.ts";
import { RamRanges } from "./ram-ranges.ts";
import { ringArea } from "./ring-area.ts";
import { AvailFlag, Desc, DescFlag, Feature, MAX_SEGMENTS, Ring, UsedFlag } from "./spec.ts";
import type { QueueFault, QueueSetup, QueueStateV1, VirtQueue } from "./virt-queue.ts";

/** The device's side of a split virtqueue (virtio 1.3 §2.7). Every field of the driver's is read once. */
export class SplitQueue implements VirtQueue {
  readonly size: number;
  readonly #setup: QueueSetup;
  readonly #memory: GuestMemory;
  readonly #ram: RamRanges;
  readonly #chains: ChainPool;
  readonly #hasEventIdx: boolean;
  readonly #hasIndirect: boolean;
  readonly #desc: DataView;
  readonly #avail: DataView;
  readonly #used: DataView;
  #isOpen = true;
  #lastAvail = 0;
  /** Available index as last read: requests before it need no look at memory. */
  #knownAvail = 0;
  #lastUsed = 0;
  /** Used index as the driver sees it. */
  #shownUsed = 0;

  constructor(setup: QueueSetup) {
    const { size, addresses, features, memory } = setup;
    this.size = size;
    this.#setup = setup;
    this.#memory = memory;
    this.#ram = new RamRanges(memory);
    this.#chains = new ChainPool(memory, this.#ram);
    this.#hasEventIdx = features.has(Feature.EVENT_IDX);
    this.#hasIndirect = features.has(Feature.INDIRECT_DESC);
    const area = (gpa: number, length: number, alignment: number, writable: boolean): DataView => {
      const found = ringArea(memory, this.#ram, { gpa, length, alignment, writable });
      if (typeof found !== "string") return found;
      if (this.#isOpen) this.#fail(found);
      return new DataView(new ArrayBuffer(length));
    };
    this.#avail = area(addresses.driver, Ring.RING + Ring.AVAIL_ENTRY * size + 2, 2, false);
    this.#used = area(addresses.device, Ring.RING + Ring.USED_ENTRY * size + 2, 4, true);
    this.#desc = area(addresses.desc, Desc.LENGTH * size, 16, false);
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  pop(): DescriptorChain | undefined {
    if (!this.#isOpen) return undefined;
    const again = this.#chains.takeAgain();
    if (again !== undefined) return again;
    if (this.#lastAvail === this.#knownAvail && !this.#look()) return undefined;
    const slot = Ring.RING + Ring.AVAIL_ENTRY * (this.#lastAvail & (this.size - 1));
    const head = this.#avail.getUint16(slot, true);
    const chain = this.#request(head);
    if (chain === undefined) return undefined;
    this.#lastAvail = (this.#lastAvail + 1) & 0xffff;
    this.#setup.request();
    return chain;
  }

  push(chain: DescriptorChain, written: number): void {
    if (!this.#isOpen || !this.#chains.give(chain)) return;
    const slot = Ring.RING + Ring.USED_ENTRY * (this.#lastUsed & (this.size - 1));
    this.#used.setUint32(slot, chain.id, true);
    this.#used.setUint32(slot + 4, written, true);
    this.#lastUsed = (this.#lastUsed + 1) & 0xffff;
  }

  unpop(chain: DescriptorChain): void {
    if (this.#isOpen) this.#chains.putBack(chain);
  }

  flush(): void {
    const before = this.#shownUsed;
    const now = this.#lastUsed;
    if (!this.#isOpen || before === now) return;
    this.#used.setUint16(Ring.IDX, now, true);
    this.#shownUsed = now;
    this.#memory.written(this.#setup.addresses.device, this.#used.byteLength);
    fence(); // the index before the look whether the driver wants to hear of it (§2.7.7.2)
    if (this.#wantsInterrupt(before, now)) this.#setup.interrupt();
  }

  disableNotifications(): void {
    if (this.#isOpen && !this.#hasEventIdx) this.#setUsed(Ring.FLAGS, UsedFlag.NO_NOTIFY);
  }

  enableNotifications(): boolean {
    if (!this.#isOpen) return true;
    if (this.#hasEventIdx) this.#setUsed(Ring.RING + Ring.USED_ENTRY * this.size, this.#lastAvail);
    else this.#setUsed(Ring.FLAGS, 0);
    fence();
    return this.#avail.getUint16(Ring.IDX, true) === this.#lastAvail;
  }

  close(): void {
    this.#isOpen = false;
  }

  save(): QueueStateV1 {
    return { lastAvail: this.#lastAvail, lastUsed: this.#lastUsed, inFlight: this.#chains.save() };
  }

  restore(state: QueueStateV1): void {
    this.#lastAvail = state.lastAvail;
    this.#knownAvail = state.lastAvail;
    this.#lastUsed = state.lastUsed;
    this.#shownUsed = state.lastUsed;
    if (this.#isOpen && !this.#chains.restore(state.inFlight)) this.#fail("bufferOutsideMemory");
  }

  /**
   * Of a new queue that goes on for a device which died: the requests at these heads, which it had taken and not used,
   * come out of `pop` again, first and in this order.
   */
  retake(heads: readonly number[]): void {
    for (const head of heads.toReversed()) {
      const chain = this.#request(head);
      if (chain === undefined) return;
      this.#chains.putBack(chain);
    }
  }

  /** The request that starts at `head`; undefined where the driver got it wrong. */
  #request(head: number): DescriptorChain | undefined {
    let fault: QueueFault | undefined;
    if (head >= this.size) fault = "headOutOfRange";
    else if (this.#chains.isInFlight(head)) fault = "headInFlight";
    else {
      const chain = this.#chains.begin();
      chain.id = head;
      fault = this.#walk(chain, head);
      if (fault === undefined) {
        this.#chains.took(chain);
        return chain;
      }
    }
    this.#fail(fault);
    return undefined;
  }

  #look(): boolean {
    const idx = this.#avail.getUint16(Ring.IDX, true);
    if (((idx - this.#lastAvail) & 0xffff) > this.size) {
      this.#fail("availJump");
      return false;
    }
    this.#knownAvail = idx;
    return idx !== this.#lastAvail;
  }

  /** Follows the descriptors from `head` (§2.7.5). */
  #walk(chain: DescriptorChain, head: number): QueueFault | undefined {
    let table: DataView = this.#desc;
    let length = this.size;
    let limit = Math.min(this.size, MAX_SEGMENTS);
    let index = head;
    let isIndirect = false;
    let sawWritable = false;
    for (let steps = 0; ; ) {
      if (steps++ >= limit) return "chainTooLong"; // a loop, too
      const at = Desc.LENGTH * index;
      const gpa = table.getUint32(at, true) + table.getUint32(at + 4, true) * 2 ** 32;
      const len = table.getUint32(at + Desc.LEN, true);
      const flags = table.getUint16(at + Desc.FLAGS, true);
      if ((flags & DescFlag.INDIRECT) !== 0) {
        if (!this.#hasIndirect) return "indirectNotNegotiated";
        if (isIndirect) return "indirectNested";
        if ((flags & DescFlag.NEXT) !== 0) return "indirectWithNext";
        length = len / Desc.LENGTH;
        if (length === 0 || !Number.isInteger(length) || length > MAX_SEGMENTS) return "indirectLength";
        const indirect = ringArea(this.#memory, this.#ram, {
          gpa,
          length: len,
          alignment: 1,
          writable: false,
        });
        if (typeof indirect === "string") return "indirectOutsideMemory";
        table = indirect;
        index = 0;
        steps = 0;
        limit = length;
        isIndirect = true;
        continue;
      }
      const isWritable = (flags & DescFlag.WRITE) !== 0;
      if (sawWritable && !isWritable) return "readableAfterWritable";
      sawWritable = isWritable;
      if (len > 0) {
        if (!this.#ram.contains(gpa, len, isWritable)) return "bufferOutsideMemory";
        chain.append(gpa, len, isWritable);
      }
      if ((flags & DescFlag.NEXT) === 0) return undefined;
      index = table.getUint16(at + Desc.NEXT, true);
      if (index >= length) return "nextOutOfRange";
    }
  }

  #wantsInterrupt(before: number, now: number): boolean {
    if (!this.#hasEventIdx) return (this.#avail.getUint16(Ring.FLAGS, true) & AvailFlag.NO_INTERRUPT) === 0;
    const event = this.#avail.getUint16(Ring.RING + Ring.AVAIL_ENTRY * this.size, true);
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  #setUsed(offset: number, value: number): void {
    this.#used.setUint16(offset, value, true);
    this.#memory.written(this.#setup.addresses.device + offset, 2);
  }

  #fail(fault: QueueFault): void {
    this.#isOpen = false;
    this.#setup.fail(fault);
  }
}
