import { ChainPool } from "./chain-pool.ts";
import type { DescriptorChain } from "./descriptor-chain.ts";
import { PackedRing } from "./packed-ring.ts";
import { Feature } from "./spec.ts";
import { SplitRing } from "./split-ring.ts";
import type { QueueFault, QueueSetup, QueueStateV1, VirtQueue } from "./virt-queue.ts";
import { RingMemory, type VirtqueueRing } from "./virtqueue-ring.ts";

/** The device's side of a virtqueue, split or packed as negotiated (virtio 1.3 §2.7, §2.8). */
export class DeviceQueue implements VirtQueue {
  readonly size: number;
  readonly #setup: QueueSetup;
  readonly #ring: VirtqueueRing;
  /** For `retake`. */
  readonly #split: SplitRing | undefined;
  readonly #chains: ChainPool;
  readonly #isInOrder: boolean;
  #isOpen = true;
  /** Requests that `pop` still gives; −1: all there are. */
  #left = -1;

  constructor(setup: QueueSetup) {
    const memory = new RingMemory(setup);
    this.size = setup.size;
    this.#setup = setup;
    this.#split = setup.features.has(Feature.RING_PACKED) ? undefined : new SplitRing(setup, memory);
    this.#ring = this.#split ?? new PackedRing(setup, memory);
    this.#isInOrder = setup.features.has(Feature.IN_ORDER);
    this.#chains = new ChainPool(memory, { inOrder: this.#isInOrder });
    if (memory.fault !== undefined) this.#fail(memory.fault);
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  pop(): DescriptorChain | undefined {
    if (!this.#isOpen || this.#left === 0) return undefined;
    if (this.#left > 0) this.#left--;
    const again = this.#chains.takeAgain();
    if (again !== undefined) return again;
    if (!this.#ring.isAvailable()) return undefined;
    const chain = this.#chains.begin();
    const fault = this.#ring.take(chain);
    if (!this.#took(chain, fault)) return undefined;
    this.#setup.request();
    return chain;
  }

  push(chain: DescriptorChain, written: number): void {
    if (!this.#isOpen || !this.#chains.isHeld(chain)) return;
    if (!this.#isInOrder) {
      this.#use(chain, written);
      return;
    }
    chain.done = written;
    for (let oldest = this.#chains.oldest; oldest !== undefined && oldest.done >= 0; ) {
      this.#use(oldest, oldest.done);
      oldest = this.#chains.oldest;
    }
  }

  unpop(chain: DescriptorChain): void {
    if (this.#isOpen) this.#chains.putBack(chain);
  }

  flush(): void {
    if (this.#isOpen && this.#show()) this.#setup.interrupt();
  }

  disableNotifications(): void {
    if (this.#isOpen) this.#ring.disableNotifications();
  }

  enableNotifications(): boolean {
    if (this.#left === 0) return true; // somebody is going to look again
    return !this.#isOpen || this.#ring.enableNotifications();
  }

  /** `pop` gives so many requests from now on, and then none. */
  limit(requests: number): void {
    this.#left = requests;
  }

  /** `pop` gives all there are again. True where it may have held some back, of which the driver does not notify. */
  unlimit(): boolean {
    const isReached = this.#left === 0;
    this.#left = -1;
    return isReached;
  }

  close(): void {
    if (this.#isOpen) this.#show(); // what was pushed is used, and memory that was written was written
    this.#isOpen = false;
  }

  save(): QueueStateV1 {
    return {
      lastAvail: this.#ring.lastAvail,
      lastUsed: this.#ring.lastUsed,
      inFlight: this.#chains.save(),
    };
  }

  restore(state: QueueStateV1): void {
    if (!this.#isOpen) return;
    const { lastAvail, lastUsed, inFlight } = state;
    const slots = inFlight.reduce((sum, chain) => sum + chain.slots, 0);
    const fault = this.#ring.restore(lastAvail, lastUsed, slots);
    if (fault !== undefined) this.#fail(fault);
    else if (!this.#chains.restore(inFlight)) this.#fail("bufferOutsideMemory");
  }

  /**
   * Of a new split queue that goes on for a device which died: the requests at these heads, which it had taken and not
   * used, come out of `pop` again, first and in this order.
   */
  retake(heads: readonly number[]): void {
    if (this.#split === undefined) return;
    for (const head of heads) {
      const chain = this.#chains.begin();
      if (!this.#took(chain, this.#split.read(chain, head))) return;
      this.#chains.putBack(chain);
    }
  }

  /** The chain is in flight, unless something is wrong with it. */
  #took(chain: DescriptorChain, fault: QueueFault | undefined): boolean {
    const found = fault ?? (this.#chains.isInFlight(chain.id) ? "headInFlight" : undefined);
    if (found !== undefined) {
      this.#fail(found);
      return false;
    }
    this.#chains.took(chain);
    this.#setup.journal?.taken(chain);
    return true;
  }

  #use(chain: DescriptorChain, written: number): void {
    const { journal } = this.#setup;
    journal?.using(chain);
    this.#ring.use(chain, written);
    journal?.used(chain);
    this.#chains.give(chain);
  }

  /** Whether the driver wants to hear of what it sees now. */
  #show(): boolean {
    const wants = this.#ring.show();
    this.#setup.journal?.shown();
    return wants;
  }

  #fail(fault: QueueFault): void {
    this.close();
    this.#setup.fail(fault);
  }
}
